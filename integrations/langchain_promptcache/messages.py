"""LangChain's messages -> the chat messages that the engine takes.

Knows LangChain's classes. What a content may hold is checked by the engine, which says in which
message something else than text stands.

Of an assistant's message, the content blocks that call tools are left to its `tool_calls`, and a
call that could not be read is the text that the model wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
)

from promptcache.errors import PromptError, kind_of
from promptcache.text.tools import short_id

ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
)
CALLS = frozenset({"tool_call", "tool_call_chunk", "invalid_tool_call", "tool_use"})
"""Types of the content blocks that repeat a message's calls: LangChain's, and Anthropic's."""
THOUGHTS = frozenset({"reasoning", "thinking", "redacted_thinking"})
"""Types of the content blocks with what a model thought before it answered. They are left out, as
chat templates leave the thoughts of earlier turns out."""
SPOKEN = {"human": "user", "ai": "assistant"}
"""LangChain's names of roles that chat templates call otherwise."""


def to_engine(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages as dicts with `role` and `content`, and the calls and results of tools.

    Raises PromptError for a message of a kind that no chat template has a role for.
    """
    names: dict[str | None, str] = {}
    found = []
    for number, message in enumerate(messages, 1):
        told: dict[str, Any] = {
            "role": _role(message, number),
            "content": _content(message.content),
        }
        if isinstance(message, AIMessage):
            told |= _assistant(message)
            names |= {call["id"]: call["name"] for call in message.tool_calls}
        elif isinstance(message, ToolMessage):
            told["tool_call_id"] = short_id(message.tool_call_id)
            told["name"] = message.name or names.get(message.tool_call_id)
        found.append(told)
    return found


def documents_in(messages: Sequence[BaseMessage]) -> list[Document]:
    """The documents that tools gave beside their text (`response_format="content_and_artifact"`),
    as retriever tools do.
    """
    return [
        document
        for message in messages
        if isinstance(message, ToolMessage) and isinstance(message.artifact, list | tuple)
        for document in message.artifact
        if isinstance(document, Document)
    ]


def _assistant(message: AIMessage) -> dict[str, Any]:
    content = message.content
    if not isinstance(content, str):
        left_out = CALLS | THOUGHTS
        content = [b for b in content if isinstance(b, str) or b.get("type") not in left_out]
    invalid = message.invalid_tool_calls or _invalid_in(message.content)
    unread = [args for call in invalid if (args := call.get("args"))]
    if unread and isinstance(content, str):
        content = "\n".join([*([content] if content else []), *unread])
    elif unread:
        content = [*content, "\n".join([*([""] if content else []), *unread])]
    told: dict[str, Any] = {"content": _content(content)}
    if message.tool_calls:
        told["tool_calls"] = [_call(call) for call in message.tool_calls]
    return told


def _invalid_in(content: str | list[str | dict[str, Any]]) -> list[dict[str, Any]]:
    """The calls that could not be read, where only content blocks tell of them."""
    blocks = [block for block in content if isinstance(block, dict)]
    return [block for block in blocks if block.get("type") == "invalid_tool_call"]


def _call(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["args"]}
    return {"type": "function", "id": short_id(call["id"]), "function": function}


def _role(message: BaseMessage, number: int) -> str:
    if isinstance(message, ChatMessage):
        return SPOKEN.get(message.role, message.role)
    for kind, role in ROLES:
        if isinstance(message, kind):
            return role
    raise PromptError(
        f"message {number} is {kind_of(message)}; expected a system, human, AI, tool or "
        "chat message"
    )


def _content(content: str | list[str | dict[str, Any]]) -> str | list[str | dict[str, Any]]:
    if isinstance(content, str):
        return content
    return [block if isinstance(block, str) else _block(block) for block in content]


def _block(block: dict[str, Any]) -> dict[str, Any]:
    """A content block; LangChain's standard blocks hold `cache_control` among their extras."""
    control = (block.get("extras") or {}).get("cache_control")
    return {**block, "cache_control": control} if control else block
