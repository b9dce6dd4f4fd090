"""What a user asks, as segments: PML, chat messages and plain text become one shape here.

Markup is never guessed: each of the three has a method of its own. Knows no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import blake2b
from itertools import takewhile
from pathlib import Path
from typing import Any

from promptcache.contexts import WORTHWHILE, Contexts, content_of, mark_beginning
from promptcache.errors import PromptError, TemplateError, valid
from promptcache.pml import (
    Prompt,
    Schema,
    Text,
    find_schema,
    parse_prompt,
    parse_schema,
    resolve,
)
from promptcache.pml.imports import STAND_IN, first_import
from promptcache.segments import Kind, Message, Segment, joined
from promptcache.text.calling import Calling, Callings
from promptcache.text.chat import ChatTemplate
from promptcache.text.recognize import AGAIN
from promptcache.text.tools import FIELDS, Tool, fields_as_json, parameters_by_name, tools_as_json

MessageLike = Mapping[str, Any]
"""A chat message: `role` and `content`, a string or a list of text blocks; where tools are used,
`tool_calls`, `tool_call_id` and `name` as transformers' chat templates take them."""
SYSTEM_ROLES = ("system", "developer")
MESSAGE_FIELDS = ("role", "content", *FIELDS)
BEGINNINGS = 256
"""Schemas whose preambles are remembered, registered or not."""

Recognise = Callable[[str], Sequence[Segment]]
"""Cuts a text into segments: registered documents and what stands between them."""


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

    def __init__(self, template: ChatTemplate, contexts: Contexts) -> None:
        self._template = template
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
            raise PromptError(
                f"the schema is a {type(schema).__name__}; expected PML as text, or a Schema"
            )
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

    def from_pml(
        self, prompt: str | Prompt, documents: Mapping[str, str], schema: Schema | None = None
    ) -> tuple[Segment, ...]:
        """The segments of a prompt in PML; its schema says where the preamble ends.

        `schema` is the prompt's own, where it brings one; it is not registered.
        """
        if not isinstance(prompt, str | Prompt):
            raise PromptError(
                f"the prompt is a {type(prompt).__name__}; expected PML as text, or a Prompt"
            )
        parsed = parse_prompt(prompt) if isinstance(prompt, str) else prompt
        if schema is not None and not isinstance(schema, Schema):
            raise PromptError(
                f"schema={schema!r:.80} is not a Schema; parse_schema makes one of PML"
            )
        known = find_schema(parsed, self.schemas) if schema is None else schema
        beginning = self.beginning_of(known)
        if schema is not None:
            self._contexts.declare(beginning, lasting=False)
        return self.of_schema(known, parsed, documents, joined(beginning))

    def of_schema(
        self, schema: Schema, prompt: Prompt, documents: Mapping[str, str], beginning: str
    ) -> tuple[Segment, ...]:
        """The segments of a prompt; `beginning` is the text of the schema's preamble."""
        segments = self._template.render(resolve(schema, prompt, documents))
        if joined(segments).startswith(beginning):
            return mark_beginning(segments, len(beginning))
        return segments

    def from_text(self, text: str, recognise: Recognise) -> tuple[Segment, ...]:
        """The segments of a plain text, without a chat template."""
        check_text(text, "the prompt")
        return self._contexts.mark(recognise(text))

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
        if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
            raise PromptError(
                f"the messages are a {type(messages).__name__}; expected a list of "
                '{"role": ..., "content": ...}'
            )
        if not messages:
            raise PromptError("there are no messages: there is nothing to generate from")
        once = _Once()
        parsed = [_message(m, i, recognise, mark, once) for i, m in enumerate(messages)]
        if not any(message.text.strip() for message in parsed):
            raise PromptError("the messages have no text: there is nothing to generate from")
        turns = _turns_before_documents(parsed)
        if not tools and not turns:
            return self._contexts.mark(self._template.render(parsed))
        marked = [_system_as_preamble(message) for message in parsed]
        rendered = self._template.render(marked, tools=tools)
        preamble = list(takewhile(lambda segment: segment.preamble, rendered))
        shown = joined(preamble)
        whole = all(name in shown for name in parameters_by_name(tools_as_json(tools)))
        enough = tools or content_of(preamble) >= WORTHWHILE
        known = len(shown) if whole and enough else 0
        return (*self._contexts.mark(rendered, known, turns=turns), *opening)


class _Once:
    """Lets each module be used once in a prompt; a second time its text is computed."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, segment: Segment) -> Segment:
        if segment.kind is not Kind.MODULE or segment.module is None:
            return segment
        if segment.module in self._used:
            return Segment(segment.text, note=AGAIN)
        self._used.add(segment.module)
        return segment


def _turns_before_documents(messages: Sequence[Message]) -> bool:
    """Whether something was said before the message that holds the first document."""
    for message in messages:
        if any(segment.kind is Kind.MODULE for segment in message.segments):
            return False
        if message.role not in SYSTEM_ROLES:
            return any(s.kind is Kind.MODULE for m in messages for s in m.segments)
    return False


def _system_as_preamble(message: Message) -> Message:
    """A system message whose text up to its first module is marked as preamble."""
    if message.role not in SYSTEM_ROLES:
        return message
    head = list(takewhile(lambda s: s.kind is not Kind.MODULE, message.segments))
    marked = (replace(segment, preamble=True) for segment in head)
    return replace(message, segments=(*marked, *message.segments[len(head) :]))


def _message(
    message: MessageLike, index: int, recognise: Recognise, mark: Recognise, once: _Once
) -> Message:
    where = f"message {index + 1}"
    if not isinstance(message, Mapping):
        raise PromptError(f"{where} is a {type(message).__name__}, expected role and content")
    if unknown := [str(key) for key in message if key not in MESSAGE_FIELDS and message[key]]:
        raise PromptError(
            f"{where} has {unknown[0]!r}, which is not passed on{valid(unknown[0], MESSAGE_FIELDS)}"
        )
    role = message.get("role")
    if not isinstance(role, str) or not role:
        raise PromptError(f"{where} has no role: {dict(message)!r:.200}")
    fields = fields_as_json(message, where)
    content = message.get("content")
    if content is None and message.get("tool_calls"):
        content = ""
    blocks = [content] if isinstance(content, str) else content
    if not isinstance(blocks, Sequence):
        raise PromptError(f"the content of {where} is {content!r:.80}; expected text or blocks")
    segments = [once(s) for block in blocks for s in _block(block, where, recognise, mark)]
    return Message(role, tuple(segments), fields)


def _block(block: Any, where: str, recognise: Recognise, mark: Recognise) -> Iterator[Segment]:
    if isinstance(block, str):
        check_text(block, where)
        yield from recognise(block)
        return
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind == "text" and not isinstance(block.get("text"), str):
        raise PromptError(f"{where} holds a block of type 'text' whose 'text' is no text")
    if kind != "text":
        raise PromptError(
            f"{where} holds a block of type {kind!r}; promptcache serves text only"
            f"{valid(str(kind), ['text'], what='valid types')}"
        )
    text = block["text"]
    check_text(text, where)
    yield from mark(text) if block.get("cache_control") else recognise(text)


def check_text(text: object, where: str) -> None:
    """Raise PromptError for what is not text, or text that no tokenizer can read."""
    if not isinstance(text, str):
        raise PromptError(f"{where} is a {type(text).__name__}, expected text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{where} holds a lone surrogate, {text[error.start]!r} at character {error.start}, "
            "which no tokenizer can read"
        ) from None
