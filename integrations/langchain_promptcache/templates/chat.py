"""Chat prompt templates -> turns: one for each message template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    HumanMessagePromptTemplate,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.string import StringPromptTemplate

from langchain_promptcache.messages import SPOKEN
from langchain_promptcache.templates.parts import Fixed, Opaque, Part, Turn
from langchain_promptcache.templates.strings import Values, parts_of

ROLES: tuple[tuple[type[Any], str], ...] = (
    (SystemMessagePromptTemplate, "system"),
    (HumanMessagePromptTemplate, "user"),
    (AIMessagePromptTemplate, "assistant"),
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
)


def turns_of(prompt: ChatPromptTemplate, outer: Values | None = None) -> Iterator[Turn]:
    """The messages of a chat prompt, those of chat prompts inside it included."""
    values = {**prompt.partial_variables, **(outer or {})}
    for message in prompt.messages:
        if isinstance(message, ChatPromptTemplate):
            yield from turns_of(message, values)
        else:
            role = _role(message)
            parts = _parts(message, values) if role else [Opaque(type(message).__name__)]
            yield Turn(role, tuple(parts))


def _role(message: object) -> str | None:
    if isinstance(message, ChatMessage | ChatMessagePromptTemplate):
        return SPOKEN.get(message.role, message.role)
    return next((role for kind, role in ROLES if isinstance(message, kind)), None)


def _parts(message: Any, values: Values) -> Iterator[Part]:
    if isinstance(message, BaseMessage):
        yield from _fixed(message)
        return
    prompts = message.prompt if isinstance(message.prompt, list) else [message.prompt]
    for prompt in prompts:
        if isinstance(prompt, StringPromptTemplate):
            yield from parts_of(prompt, values)
        else:
            yield Opaque(type(prompt).__name__)


def _fixed(message: BaseMessage) -> Iterator[Part]:
    blocks = [message.content] if isinstance(message.content, str) else message.content
    for block in blocks:
        if isinstance(block, str):
            yield Fixed(block)
        elif block.keys() <= {"type", "text"} and block.get("type") == "text":
            yield Fixed(block["text"])
        else:
            yield Opaque(f"a content block of type {block.get('type')!r}")
