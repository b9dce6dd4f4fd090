"""LlamaIndex's chat messages -> the messages that the engine takes.

A CachePoint ends a module: the text of its message up to it, from the one before. Text blocks are
joined by a line break, as `ChatMessage.content` joins them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ThinkingBlock, ToolCallBlock
from llama_index.core.llms import CachePoint, ChatMessage, MessageRole, TextBlock

from promptcache.errors import PromptError, kind_of
from promptcache.text.tools import short_id

ROLES = {
    MessageRole.SYSTEM: "system",
    MessageRole.DEVELOPER: "system",
    MessageRole.USER: "user",
    MessageRole.ASSISTANT: "assistant",
    MessageRole.CHATBOT: "assistant",
    MessageRole.MODEL: "assistant",
    MessageRole.TOOL: "tool",
    MessageRole.FUNCTION: "tool",
}
JOINT = "\n"


def to_engine(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages as dicts with `role` and `content`, and the calls and results of tools.

    Thoughts of earlier answers are left out, as chat templates leave them out. Raises PromptError
    for what is no message, or a block that is more than text.
    """
    if isinstance(messages, str) or not isinstance(messages, Sequence):
        raise PromptError(f"the messages are {kind_of(messages)}; expected a list of ChatMessages")
    names: dict[str | None, str] = {}
    found = []
    for number, message in enumerate(messages, 1):
        if not isinstance(message, ChatMessage):
            raise PromptError(
                f"message {number} is {kind_of(message)}; expected a ChatMessage, for example "
                "ChatMessage('Hello', role='user')"
            )
        told: dict[str, Any] = {"role": ROLES[message.role], "content": _content(message, number)}
        calls = [*_calls(message, number)]
        if calls:
            told["tool_calls"] = calls
            names |= {call["id"]: call["function"]["name"] for call in calls}
        elif told["role"] == "tool":
            about = message.additional_kwargs
            told["tool_call_id"] = short_id(about.get("tool_call_id"))
            told["name"] = about.get("name") or names.get(told["tool_call_id"])
        found.append(told)
    return found


def _content(message: ChatMessage, number: int) -> str | list[dict[str, Any]]:
    """The text, or its parts where some of them are modules."""
    parts: list[dict[str, Any]] = []
    run: list[str] = []
    for block in message.blocks:
        if isinstance(block, TextBlock):
            run.append(block.text)
        elif isinstance(block, CachePoint):
            if run:
                control = block.cache_control.model_dump(exclude_none=True)
                parts += [*_joint(parts), {**_text(run), "cache_control": control}]
            run = []
        elif not isinstance(block, ThinkingBlock | ToolCallBlock):
            raise PromptError(
                f"message {number} holds {kind_of(block)}; promptcache serves text only"
            )
    if not parts:
        return JOINT.join(run)
    return [*parts, *([*_joint(parts), _text(run)] if run else [])]


def _joint(parts: Sequence[object]) -> list[dict[str, Any]]:
    return [_text([JOINT])] if parts else []


def _text(run: Sequence[str]) -> dict[str, Any]:
    return {"type": "text", "text": JOINT.join(run)}


def _calls(message: ChatMessage, number: int) -> Iterator[dict[str, Any]]:
    """The calls of an assistant's message, from its blocks, or where older versions put them."""
    blocks = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    for block in blocks:
        yield _call(block.tool_name, block.tool_kwargs, block.tool_call_id, number)
    for call in () if blocks else message.additional_kwargs.get("tool_calls") or ():
        said = call if isinstance(call, Mapping) else getattr(call, "model_dump", dict)()
        function = said.get("function")
        if not isinstance(function, Mapping) or "name" not in function:
            raise PromptError(
                f"message {number} has {call!r:.80} among its tool_calls; expected "
                '{"id": ..., "function": {"name": ..., "arguments": ...}}'
            )
        yield _call(function["name"], function.get("arguments", ""), said.get("id"), number)


def _call(name: str, arguments: object, given: str | None, number: int) -> dict[str, Any]:
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except ValueError as error:
            raise PromptError(
                f"message {number} calls {name!r} with {arguments!r:.80}, which is no JSON"
            ) from error
    function = {"name": name, "arguments": arguments}
    return {"type": "function", "id": short_id(given), "function": function}
