"""Chat prompt templates -> turns: one for each message template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    SystemMessagePromptTemplate,
)
from langchain_core.prompts.string import StringPromptTemplate

from langchain_promptcache.messages import SPOKEN, to_engine
from langchain_promptcache.templates.formats import Values
from langchain_promptcache.templates.strings import parts_of
from promptcache.errors import PromptCacheError, TemplateError
from promptcache.templates import Chosen, Exchange, Fixed, Opaque, Part, Turn, spoken_of

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
        elif isinstance(message, FewShotChatMessagePromptTemplate):
            yield from examples_of(message)
        else:
            role = _role(message)
            parts = _parts(message, values) if role else [Opaque(_name(message))]
            yield Turn(role, tuple(parts))


def examples_of(template: FewShotChatMessagePromptTemplate) -> Iterator[Turn]:
    """The examples of a few-shot chat prompt, each of one message or several."""
    if template.examples is None:
        yield Turn(None, (Chosen(""),))
        return
    called = getattr(template.example_prompt, "partial_variables", {}).values()
    if any(map(callable, called)):
        yield Turn(None, (Opaque("examples with partial variables that are called for"),))
        return
    for number, example in enumerate(template.examples, 1):
        names = template.example_prompt.input_variables
        if missing := [name for name in names if name not in example]:
            raise TemplateError(f"example {number} has no value for {missing[0]!r}")
        given = {name: example[name] for name in names}
        messages = template.example_prompt.format_messages(**given)
        try:
            yield Turn(None, (Exchange(tuple(spoken_of(to_engine(messages)))),))
        except PromptCacheError as error:
            yield Turn(None, (Opaque(f"an example ({error})"),))


def _name(message: object) -> str:
    if isinstance(message, MessagesPlaceholder):
        return f"the placeholder {message.variable_name!r}"
    return type(message).__name__


def _role(message: object) -> str | None:
    if isinstance(message, ChatMessage | ChatMessagePromptTemplate):
        return SPOKEN.get(message.role, message.role)
    return next((role for kind, role in ROLES if isinstance(message, kind)), None)


def _parts(message: Any, values: Values) -> Iterator[Part]:
    if isinstance(message, BaseMessage):
        yield from _fixed(message)
    elif not isinstance(message.prompt, list):
        yield from parts_of(message.prompt, values)
    else:
        for prompt in message.prompt:
            if isinstance(prompt, StringPromptTemplate):  # it is given its input variables only
                names = prompt.input_variables
                yield from parts_of(prompt, {n: values[n] for n in names if n in values})
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
