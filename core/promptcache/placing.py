"""Where documents stand while they are encoded: a prompt that holds them, laid out.

Lays out, and encodes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from promptcache.errors import OptionError, valid
from promptcache.layout import Layout
from promptcache.pipeline import Pipeline
from promptcache.pml import Document, Import, Prompt, Schema, Text
from promptcache.pml.imports import collection_of
from promptcache.prompts import FramedText, Prompts
from promptcache.segments import Kind, Segment, joined

QUESTION = Text("?")
"""Stands for what a prompt asks, where only its modules matter."""
Place = Callable[[Sequence[str]], tuple[Layout, set[str]]]
"""Lays out a prompt that holds the documents of these keys; the names of their runs besides."""


class Placing:
    """Prompts that hold what a schema or a text has behind its preamble."""

    def __init__(
        self, prompts: Prompts, pipeline: Pipeline, texts: Mapping[str, str], *, bare: bool
    ) -> None:
        self._prompts = prompts
        self._pipeline = pipeline
        self._texts = texts
        self._bare = bare

    def of_documents(
        self, schema: str | Schema | None, preamble: FramedText | None
    ) -> Place | None:
        """Where documents stand in prompts of a schema, or behind a text; None without either.

        The schema is a registered one, by its name, or any as a value.

        Raises OptionError for both, and for a schema that is unknown or has no collection.
        """
        if schema is not None and preamble is not None:
            raise OptionError("schema=... and preamble=... were given: documents have one preamble")
        if schema is not None:
            return self._in_schema(schema)
        return None if preamble is None else self._in_text(preamble)

    def of_imports(self, schema: Schema, wanted: Iterable[Import | Text], beginning: str) -> Layout:
        """A prompt of the schema that holds what is wanted; `beginning` is its preamble's text."""
        prompt = Prompt(schema.name, (*wanted, QUESTION))
        segments = self._prompts.of_schema(schema, prompt, self._texts, beginning)
        return self._pipeline.layout(segments, bare=self._bare)

    def _in_schema(self, given: str | Schema) -> Place:
        schemas = self._prompts.schemas
        if not isinstance(given, Schema) and given not in schemas:
            hint = valid(str(given), schemas, what="schemas")
            raise OptionError(f"there is no schema {given!r}{hint}")
        schema = given if isinstance(given, Schema) else schemas[given]
        collection = collection_of(schema)
        if collection is None:
            raise OptionError(f"the schema {schema.name!r} has no collection for documents to join")
        beginning = self._prompts.beginning_of(schema)

        def place(keys: Sequence[str]) -> tuple[Layout, set[str]]:
            self._prompts.declare(beginning, keys)
            wanted = Import(collection.name, children=tuple(map(Document, keys)))
            names = {f"{schema.name}.{collection.name}.{key}" for key in keys}
            return self.of_imports(schema, [wanted], joined(beginning)), names

        return place

    def _in_text(self, preamble: FramedText) -> Place:
        written = self._prompts.written(preamble, "the preamble")
        beginning = [replace(segment, preamble=True) for segment in written]

        def place(keys: Sequence[str]) -> tuple[Layout, set[str]]:
            self._prompts.declare(beginning, keys)
            modules = [Segment(self._texts[key], Kind.MODULE, key) for key in keys]
            segments = [*beginning, *modules, Segment(QUESTION.text)]
            return self._pipeline.layout(segments, bare=self._bare), set(keys)

        return place
