"""Chat messages, as users give them, checked and cut into segments.

Knows no templates and no tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import takewhile
from typing import Any

from promptcache.errors import PromptError, kind_of, valid
from promptcache.segments import Kind, Message, Segment
from promptcache.text.recognize import AGAIN
from promptcache.text.tools import FIELDS, fields_as_json

MessageLike = Mapping[str, Any]
"""A chat message: `role` and `content`, a string or a list of text blocks; where tools are used,
`tool_calls`, `tool_call_id` and `name` as transformers' chat templates take them."""
SYSTEM_ROLES = ("system", "developer")
MESSAGE_FIELDS = ("role", "content", *FIELDS)

Recognise = Callable[[str], Sequence[Segment]]
"""Cuts a text into segments: registered documents and what stands between them."""


def parsed(messages: Sequence[MessageLike], recognise: Recognise, mark: Recognise) -> list[Message]:
    """The messages, their texts cut by `recognise`, those of blocks with `cache_control` by `mark`.

    Raises PromptError for what are no messages, for one without a role or with a content that is
    not text, and for messages without any text.
    """
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise PromptError(
            f"the messages are {kind_of(messages)}; expected a list of "
            '{"role": ..., "content": ...}'
        )
    if not messages:
        raise PromptError("there are no messages: there is nothing to generate from")
    once = Once()
    found = [_message(m, i, recognise, mark, once) for i, m in enumerate(messages)]
    if not any(message.text.strip() for message in found):
        raise PromptError("the messages have no text: there is nothing to generate from")
    return found


def turns_before_documents(messages: Sequence[Message]) -> bool:
    """Whether something was said before the message that holds the first document."""
    for message in messages:
        if any(segment.kind is Kind.MODULE for segment in message.segments):
            return False
        if message.role not in SYSTEM_ROLES:
            return any(s.kind is Kind.MODULE for m in messages for s in m.segments)
    return False


def system_as_preamble(message: Message) -> Message:
    """A system message whose text up to its first module is marked as preamble."""
    if message.role not in SYSTEM_ROLES:
        return message
    head = list(takewhile(lambda s: s.kind is not Kind.MODULE, message.segments))
    marked = (replace(segment, preamble=True) for segment in head)
    return replace(message, segments=(*marked, *message.segments[len(head) :]))


class Once:
    """Lets each module be used once in a prompt; a second time its text is computed."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, segment: Segment) -> Segment:
        """The segment itself, or its text with the reason why it is computed."""
        if segment.kind is not Kind.MODULE or segment.module is None:
            return segment
        if segment.module in self._used:
            return Segment(segment.text, note=AGAIN)
        self._used.add(segment.module)
        return segment


def _message(
    message: MessageLike, index: int, recognise: Recognise, mark: Recognise, once: Once
) -> Message:
    where = f"message {index + 1}"
    if not isinstance(message, Mapping):
        raise PromptError(f"{where} is {kind_of(message)}, expected role and content")
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
        raise PromptError(f"{where} is {kind_of(text)}, expected text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise PromptError(
            f"{where} holds a lone surrogate, {text[error.start]!r} at character {error.start}, "
            "which no tokenizer can read"
        ) from None
