"""What may be reused: the schemas and documents that a user has registered, and their encoding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tqdm.auto import tqdm

from promptcache.errors import OptionError, PromptError, valid
from promptcache.layout import ModuleRun
from promptcache.library import ModuleLibrary
from promptcache.pipeline import Pipeline
from promptcache.pml import Document, Import, Prompt, Schema, Text
from promptcache.prompts import Prompts, collection_of, imports_of, key_of
from promptcache.segments import Segment, joined
from promptcache.text.recognize import Recognizer

CHUNK = 32
"""Documents that are encoded before the next ones are read."""


@dataclass(frozen=True, slots=True)
class CachedDocuments:
    """What `cache_documents` did. Counts are of documents; `tokens` and `nbytes` of their states.

    `not_kept` were encoded but are larger than the store can hold.
    """

    added: int = 0
    known: int = 0
    skipped: int = 0
    encoded: int = 0
    not_kept: int = 0
    tokens: int = 0
    nbytes: int = 0


class Shelf:
    """The registered schemas and documents of one engine."""

    def __init__(
        self, prompts: Prompts, pipeline: Pipeline, library: ModuleLibrary, *, bare: bool
    ) -> None:
        self._prompts = prompts
        self._pipeline = pipeline
        self._library = library
        self._bare = bare
        self._recognizer = Recognizer()
        self.texts: dict[str, str] = {}
        """Every registered document by its key."""

    def recognise(self, text: str) -> Sequence[Segment]:
        """The text cut into registered documents and what stands between them."""
        return self._recognizer.recognise(text)

    def missing(self, expected: Iterable[str], segments: Sequence[Segment]) -> list[str]:
        """A line for each expected document that is no module of these segments, and why."""
        used = {segment.module for segment in segments}
        text = joined(segments)
        lines = []
        for document in expected:
            key = key_of(document)
            if key not in used:
                why = (
                    self._recognizer.explain(text, key) or "its text is not in the prompt"
                    if key in self._recognizer
                    else "it is not registered"
                )
                lines.append(f"the document {document[:40]!r} was expected: {why}")
        return lines

    def add_schema(self, schema: Schema, *, encode: bool) -> None:
        """Declare the schema's preamble and encode what its prompts can import."""
        runs: dict[ModuleRun, None] = {}
        for wanted in imports_of(schema):
            segments = self._prompts.from_pml(Prompt(schema.name, (wanted,)), self.texts)
            self._prompts.declare_preamble(segments)
            layout = self._pipeline.layout(segments, bare=self._bare)
            runs.update(dict.fromkeys(piece.run for piece in layout.pieces if piece.run))
        if encode and self._library.encodes:
            self._library.fetch(list(runs))

    def add(
        self, documents: Iterable[str], *, schema: str | None, progress: bool, pin: bool
    ) -> CachedDocuments:
        """Register texts and, for a schema, encode them after its preamble.

        Raises OptionError for a schema that is unknown or has no collection, and PromptError for
        a document that is not text.
        """
        if schema is None and pin:
            raise OptionError(
                "pin=True needs schema=...: without one it is not known yet what to encode"
            )
        target = None if schema is None else self._collection(schema)
        total = CachedDocuments()
        size = len(documents) if isinstance(documents, Sequence) else None
        with tqdm(total=size, unit="doc", desc="caching", disable=not progress) as bar:
            for chunk in _chunks(documents):
                total = self._add_chunk(chunk, target, total, pin)
                bar.update(len(chunk))
        return total

    def remove(self, documents: Iterable[str]) -> int:
        """Forget texts; how many were registered. Their states are evicted like any others."""
        known = 0
        for text in documents:
            key = key_of(text)
            if self.texts.pop(key, None) is not None:
                self._recognizer.remove(key)
                known += 1
        return known

    def _collection(self, name: str) -> tuple[str, str]:
        schemas = self._prompts.schemas
        if name not in schemas:
            raise OptionError(f"there is no schema {name!r}{valid(name, schemas, what='schemas')}")
        collection = collection_of(schemas[name])
        if collection is None:
            raise OptionError(f"the schema {name!r} has no collection for documents to join")
        return name, collection.name

    def _add_chunk(
        self,
        chunk: Sequence[str],
        target: tuple[str, str] | None,
        so_far: CachedDocuments,
        pin: bool,
    ) -> CachedDocuments:
        new: dict[str, str] = {}
        skipped = known = 0
        for text in chunk:
            if not isinstance(text, str):
                raise PromptError(f"a document is a {type(text).__name__}, expected text")
            key = key_of(text)
            if key in self.texts or key in new:
                known += 1
            elif not text.strip():
                skipped += 1
            else:
                new[key] = text
        self.texts.update(new)
        for key, text in new.items():
            self._recognizer.add(key, text)
        keys = [key_of(text) for text in chunk if text.strip()]
        runs = self._runs(keys, target) if target and self._library.encodes else []
        records = self._library.fetch(runs)
        if pin:
            for record in records.values():
                self._library.store.pin(record.key)
        fresh = [record for record in records.values() if record.encoded]
        return CachedDocuments(
            so_far.added + len(new),
            so_far.known + known,
            so_far.skipped + skipped,
            so_far.encoded + len(fresh),
            so_far.not_kept + sum(not record.kept for record in fresh),
            so_far.tokens + sum(len(run.ids) for run in records),
            so_far.nbytes + sum(record.kv.nbytes for record in records.values()),
        )

    def _runs(self, keys: Sequence[str], target: tuple[str, str]) -> list[ModuleRun]:
        """The documents as they are encoded: laid out as a prompt of the schema would have them."""
        schema, collection = target
        wanted = Import(collection, children=tuple(map(Document, dict.fromkeys(keys))))
        segments = self._prompts.from_pml(Prompt(schema, (wanted, Text("?"))), self.texts)
        self._prompts.declare_preamble(segments)
        layout = self._pipeline.layout(segments, bare=self._bare)
        named = {f"{schema}.{collection}.{key}" for key in keys}
        return list(dict.fromkeys(p.run for p in layout.pieces if p.run and p.run.name in named))


def _chunks(documents: Iterable[str]) -> Iterator[list[str]]:
    iterator = iter(documents)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
