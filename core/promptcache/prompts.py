"""What a user asks, as segments: PML, chat messages and plain text become one shape here.

Markup is never guessed: each of the three has a method of its own. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Any

from promptcache.contexts import WORTHWHILE, Contexts, content_of, mark_beginning
from promptcache.errors import PromptError, TemplateError, kind_of
from promptcache.messages import (
    MessageLike,
    Once,
    Recognise,
    check_text,
    parsed,
    system_as_preamble,
    turns_before_documents,
)
from promptcache.pml import (
    Prompt,
    Schema,
    Text,
    Turn,
    find_schema,
    parse_prompt,
    parse_schema,
    resolve,
)
from promptcache.pml.imports import STAND_IN, first_import
from promptcache.segments import Kind, Segment, joined
from promptcache.text.calling import Calling, Callings
from promptcache.text.chat import ChatTemplate
from promptcache.text.tools import Tool, parameters_by_name, tools_as_json

BEGINNINGS = 256
"""Schemas whose preambles are remembered, registered or not."""


@dataclass(frozen=True, slots=True)
class Frame:
    """Text of the format that a prompt is written in: it may spell control tokens."""

    text: str


FramedText = str | Sequence[str | Frame]
"""A text, or its parts: those of its format, and what stands in it."""


def key_of(text: str) -> str:
    """The key of a document: a hash of its content, white space at its edges aside.

    Frameworks strip and pad that white space as they like; it is the same document.
    """
    return blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def as_module(text: str) -> Sequence[Segment]:
    """A text that is a module of its own."""
    return (Segment(text, Kind.MODULE, key_of(text)),) if text else ()


class Prompts:
    """Turns requests into segments with their preamble marked."""

    def __init__(self, template: ChatTemplate, contexts: Contexts, bos: str = "") -> None:
        self._template = template
        self._bos = bos
        self._callings = Callings(template)
        self._contexts = contexts
        self.schemas: dict[str, Schema] = {}
        self.beginning_of = lru_cache(BEGINNINGS)(self._beginning_of)
        """The preamble of a schema's prompts: what stands before its first selectable module."""

    @property
    def has_template(self) -> bool:
        """Whether there is a chat template."""
        try:
            return bool(self._template.source(tools=False))
        except TemplateError:
            return False

    @property
    def takes_tools(self) -> bool:
        """Whether the chat template reads tools."""
        return self._template.takes_tools

    def read_schema(self, schema: str | Schema, base: Path | None = None) -> Schema:
        """A schema from its markup, or as it is. PromptError for what is neither."""
        if base is not None and not isinstance(base, str | Path):
            raise PromptError(f"base={base!r} is not a folder")
        if isinstance(schema, Schema):
            return schema
        if not isinstance(schema, str):
            raise PromptError(f"the schema is {kind_of(schema)}; expected PML as text, or a Schema")
        return parse_schema(schema, base=None if base is None else Path(base))

    def _beginning_of(self, schema: Schema) -> tuple[Segment, ...]:
        """Read off a prompt that has something behind it, so that nothing of what follows, such
        as the end of the message, is taken for it.
        """
        wanted = first_import(schema)
        prompt = Prompt(schema.name, (wanted, Text("?")) if wanted else (Text("?"),))
        rendered = self._template.render(resolve(schema, prompt, {STAND_IN: "A document."}))
        return tuple(takewhile(lambda segment: segment.preamble, rendered))

    def register(self, schema: Schema, beginning: Sequence[Segment]) -> None:
        """Keep a schema under its name, in place of one that had it."""
        self.declare(beginning)
        self.schemas[schema.name] = schema

    def declare(self, beginning: Sequence[Segment], documents: Iterable[str] = ()) -> None:
        """Let recognised prompts that begin so use it as context, those of `documents` always."""
        self._contexts.declare(beginning, documents)

    def read_prompt(self, prompt: str | Prompt) -> Prompt:
        """A prompt from its markup, or as it is. PromptError for what is neither."""
        if not isinstance(prompt, str | Prompt):
            raise PromptError(f"the prompt is {kind_of(prompt)}; expected PML as text, or a Prompt")
        return parse_prompt(prompt) if isinstance(prompt, str) else prompt

    def from_pml(
        self, prompt: str | Prompt, documents: Mapping[str, str], schema: Schema | None = None
    ) -> tuple[Segment, ...]:
        """The segments of a prompt in PML; its schema says where the preamble ends.

        `schema` is the prompt's own, where it brings one; it is not registered.
        """
        asked = self.read_prompt(prompt)
        if schema is not None and not isinstance(schema, Schema):
            raise PromptError(
                f"schema={schema!r:.80} is not a Schema; parse_schema makes one of PML"
            )
        known = find_schema(asked, self.schemas) if schema is None else schema
        beginning = self.beginning_of(known)
        if schema is not None:
            self._contexts.declare(beginning, lasting=False)
        return self.of_schema(known, asked, documents, joined(beginning))

    def of_schema(
        self, schema: Schema, prompt: Prompt, documents: Mapping[str, str], beginning: str
    ) -> tuple[Segment, ...]:
        """The segments of a prompt; `beginning` is the text of the schema's preamble."""
        segments = self._template.render(resolve(schema, prompt, documents))
        if joined(segments).startswith(beginning):
            return mark_beginning(segments, len(beginning))
        return segments

    def from_text(self, prompt: FramedText, recognise: Recognise) -> tuple[Segment, ...]:
        """The segments of a plain text, without a chat template; a module is used once."""
        segments: list[Segment] = []
        for part in self.written(prompt, "the prompt"):
            segments += recognise(part.text) if part.kind is Kind.TEXT else [part]
        return self._contexts.mark(list(map(Once(), segments)))

    def written(self, text: FramedText, where: str) -> list[Segment]:
        """A text as it was written: what stands in a format apart from what the format wrote.

        One in a format begins with BOS, which a tokenizer puts in front of any other by itself.
        """
        if isinstance(text, str):
            check_text(text, where)
            return [Segment(text)] if text else []
        if not isinstance(text, Sequence) or not all(isinstance(p, str | Frame) for p in text):
            raise PromptError(
                f"{where} is {kind_of(text)}, expected text, or a list of texts and Frames"
            )
        parts = [part for part in text if part and part != Frame("")]
        first = parts[0] if parts else ""
        if not isinstance(first, Frame) or not first.text.startswith(self._bos):
            parts.insert(0, Frame(self._bos))
        segments = [
            Segment(p.text, Kind.CONTROL) if isinstance(p, Frame) else Segment(p) for p in parts
        ]
        for number, segment in enumerate(segments, 1):
            check_text(segment.text, f"part {number} of {where}")
        return [segment for segment in segments if segment.text]

    def calling(self, tools: Sequence[Tool] | None, choice: Any = None) -> Calling | None:
        """How the answer to a request calls its tools; see `Callings.of`."""
        return self._callings.of(tools, choice)

    def from_messages(
        self,
        messages: Sequence[MessageLike],
        recognise: Recognise,
        tools: Sequence[Tool] | None = None,
        opening: Sequence[Segment] = (),
        *,
        mark: Recognise = as_module,
    ) -> tuple[Segment, ...]:
        """The segments of chat messages, through the model's chat template.

        `recognise` cuts a text into segments, `mark` one whose block has `cache_control`.
        With `tools`, the system message and their descriptions, as far as they stand in front,
        are the preamble; the system message is, where turns stand before the first document.
        `opening` is what the answer is made to begin with. Raises PromptError for a message that
        has no role or a content that is not text.
        """
        told = parsed(messages, recognise, mark)
        turns = turns_before_documents(told)
        if not tools and not turns:
            return self._contexts.mark(self._template.render(told))
        marked = [system_as_preamble(message) for message in told]
        rendered = self._template.render(marked, tools=tools)
        preamble = list(takewhile(lambda segment: segment.preamble, rendered))
        shown = joined(preamble)
        whole = all(name in shown for name in parameters_by_name(tools_as_json(tools)))
        enough = tools or content_of(preamble) >= WORTHWHILE
        known = len(shown) if whole and enough else 0
        return (*self._contexts.mark(rendered, known, turns=turns), *opening)


def answered(prompt: Prompt) -> bool:
    """Whether a prompt holds an earlier answer of its own."""
    return any(isinstance(c, Turn) and c.role == "assistant" for c in prompt.children)
