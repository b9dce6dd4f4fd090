"""What may be reused: the schemas and documents that a user has registered, and their encoding."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import replace
from itertools import chain

from tqdm.auto import tqdm

from promptcache.cached import CachedDocuments
from promptcache.chunks import chunks
from promptcache.decoys import Expected, Wanted
from promptcache.errors import OptionError, PromptError, TemplateError, kind_of
from promptcache.layout import ModuleRun
from promptcache.library import ModuleLibrary
from promptcache.marks import Marks
from promptcache.memory import surviving_out_of_memory
from promptcache.messages import check_text
from promptcache.misses import Misses
from promptcache.pipeline import Pipeline
from promptcache.placing import Place, Placing
from promptcache.pml import Schema
from promptcache.pml.imports import imports_of, imports_of_scaffolds
from promptcache.prompts import FramedText, Prompts, key_of
from promptcache.reuse import ReusePolicy
from promptcache.segments import Segment, joined
from promptcache.text.recognize import Recognizer

log = logging.getLogger("promptcache")

CHUNK = 32
"""Modules that are encoded before the next ones are looked at."""


class Shelf:
    """The registered schemas and documents of one engine."""

    def __init__(
        self,
        prompts: Prompts,
        pipeline: Pipeline,
        library: ModuleLibrary,
        policy: ReusePolicy,
        *,
        context: Wanted,
    ) -> None:
        self._prompts = prompts
        self._pipeline = pipeline
        self._library = library
        self._policy = policy
        self._recognizer = Recognizer()
        self.texts: dict[str, str] = {}
        """Every registered document by its key, and by its own names."""
        self._names: dict[str, set[str]] = {}
        self.marks = Marks(self._recognizer, self.texts)
        self.misses = Misses(self._recognizer, self.texts)
        self._context = context
        self._placing = Placing(prompts, pipeline, self.texts, bare=context == "bare")

    def recognise(self, text: str) -> Sequence[Segment]:
        """The text cut into registered documents and what stands between them."""
        return self._recognizer.recognise(text)

    def add_schema(
        self, schema: Schema, *, encode: bool, context: Wanted | None, progress: bool = False
    ) -> None:
        """Encode what the schema's prompts can import, scaffolds too, and register it.

        A schema that cannot be laid out leaves everything as it was. A module that the chat
        template does not take on its own (half of an exchange) is encoded when it is first used.
        """
        beginning = self._prompts.beginning_of(schema)
        runs: dict[ModuleRun, None] = {}
        each = ((wanted,) for wanted in imports_of(schema))
        for wanted in chain(each, imports_of_scaffolds(schema)):
            try:
                layout = self._placing.of_imports(schema, wanted, joined(beginning))
            except TemplateError:
                continue
            runs.update(dict.fromkeys(piece.run for piece in layout.pieces if piece.run))
        wanted_runs = self._in_context(runs, context)
        if encode:
            with tqdm(
                total=len(wanted_runs), unit="module", desc="encoding", disable=not progress
            ) as bar:
                for chunk in chunks(wanted_runs, CHUNK):
                    self._encode(chunk)
                    bar.update(len(chunk))
        self._prompts.register(schema, beginning)

    def add(
        self,
        documents: Iterable[str] | Mapping[str, str],
        *,
        schema: str | Schema | None,
        preamble: FramedText | None,
        context: Wanted | None,
        progress: bool,
        pin: bool,
    ) -> CachedDocuments:
        """Register texts, by names if they have them; encode them after a preamble if one is known.

        Raises OptionError for a schema that is unknown or has no collection, and PromptError for
        a document that is not text.
        """
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise PromptError(f"the documents are {kind_of(documents)}; expected several texts")
        place = self._placing.of_documents(schema, preamble)
        if place is None and pin:
            raise OptionError(
                "pin=True needs schema=... or preamble=...: without one it is not known yet what "
                "to encode"
            )
        names = documents if isinstance(documents, Mapping) else {}
        texts = names.values() if names else documents
        done, encoded = CachedDocuments(), dict[ModuleRun, None]()
        size = len(documents) if isinstance(documents, Sized) else None
        with tqdm(total=size, unit="doc", desc="caching", disable=not progress) as bar:
            for chunk in chunks(texts, CHUNK):
                keys, done = self._register(chunk, done)
                if place is not None:
                    fresh, done = self._encode_documents(keys, place, done, context, pin=pin)
                    encoded.update(dict.fromkeys(fresh))
                bar.update(len(chunk))
        self._name(names)
        if done.too_long:
            log.warning(
                "%d documents are too long for the model's window and are not encoded: split them",
                done.too_long,
            )
        not_kept = len(encoded) - self._library.holds(encoded) if encoded else 0
        if not_kept:
            log.warning(
                "the store's %d bytes do not hold all documents: %d of the %d encoded now are not "
                "kept and will be encoded again when they are needed",
                self._library.store.budget,
                not_kept,
                len(encoded),
            )
        return replace(done, not_kept=not_kept)

    def remove(self, documents: Iterable[str]) -> int:
        """Forget texts, their names and their states; how many were registered."""
        if isinstance(documents, str) or not isinstance(documents, Iterable):
            raise PromptError(f"the documents are {kind_of(documents)}; expected several texts")
        known = 0
        forgotten: set[str] = set()
        for text in documents:
            check_text(text, "a document")
            key = key_of(text)
            if key in self.texts:
                known += 1
                self._recognizer.remove(key)
                for name in (key, *self._names.pop(key, ())):
                    self.texts.pop(name, None)  # another thread may forget it, too
                    self._library.delete_named(name)
                    forgotten.add(name)
        self._pipeline.expectations.forget(forgotten)
        return known

    def _name(self, names: Mapping[str, str]) -> None:
        for name, text in names.items():
            if not isinstance(name, str) or not name:
                raise PromptError(f"a document is named {name!r}, expected a name")
            key = key_of(text)
            if key in self.texts and name != key:
                self.texts[name] = self.texts[key]
                self._names.setdefault(key, set()).add(name)

    def _register(
        self, chunk: Sequence[str], done: CachedDocuments
    ) -> tuple[list[str], CachedDocuments]:
        """Register what is new, without white space at its edges, which chains and templates
        change as they like; the keys of all that have text.
        """
        for text in chunk:
            check_text(text, "a document")
        texts = {key_of(text): text.strip() for text in chunk if text.strip()}
        blank = sum(not text.strip() for text in chunk)
        new = {key: text for key, text in texts.items() if key not in self.texts}
        self.texts.update(new)
        found = [self._recognizer.add(key, text) is not None for key, text in new.items()]
        return list(texts), replace(
            done,
            keys=(*done.keys, *texts),
            added=done.added + len(new),
            too_short=done.too_short + found.count(False),
            known=done.known + len(chunk) - blank - len(new),
            skipped=done.skipped + blank,
        )

    def _encode_documents(
        self,
        keys: Sequence[str],
        place: Place,
        done: CachedDocuments,
        context: Wanted | None,
        *,
        pin: bool,
    ) -> tuple[Iterable[ModuleRun], CachedDocuments]:
        layout, named = place(keys)
        placed = dict.fromkeys(p.run for p in layout.pieces if p.run and p.run.name in named)
        runs = self._in_context(placed, context)
        fitting = [run for run in runs if self._fits(run)]
        fresh = self._encode(fitting, pin=pin)
        return fresh, replace(
            done,
            encoded=done.encoded + len(fresh),
            too_long=done.too_long + len(runs) - len(fitting),
            tokens=done.tokens + sum(len(run.ids) for run in fresh),
            nbytes=done.nbytes + sum(fresh.values()),
        )

    def _encode(self, runs: Sequence[ModuleRun], *, pin: bool = False) -> dict[ModuleRun, int]:
        """Encode the runs that are missing and that a prompt could hold; the bytes of each."""
        if not self._library.encodes:
            return {}
        fresh: dict[ModuleRun, int] = {}
        for chunk in chunks([run for run in runs if self._fits(run)], CHUNK):
            if pin:
                self._library.pin(chunk)
            records = surviving_out_of_memory(
                lambda chunk=chunk: self._library.fetch(chunk, self._policy),  # type: ignore[misc]
                self._library.store,
                f"encoding {len(chunk)} modules",
            )
            encoded = {run: record for run, record in records.items() if record.source.encoded}
            fresh |= {run: record.kv.nbytes for run, record in encoded.items()}
        return fresh

    def _in_context(self, runs: Iterable[ModuleRun], context: Wanted | None) -> list[ModuleRun]:
        """The runs as they are to be encoded: in that context, or the engine's own."""
        given, expectations = list(runs), self._pipeline.expectations
        wanted = self._context if context is None else context
        if context == "preamble":
            expectations.drop(given)
        elif wanted not in ("preamble", "bare"):
            expected = wanted if isinstance(wanted, Expected) else Expected()
            expectations.want(expectations.expected(given, expected))
        return [expectations.of(run) for run in given]

    def _fits(self, run: ModuleRun) -> bool:
        longest = self._pipeline.longest
        return longest is None or len(run.context.ids) + len(run.ids) < longest
