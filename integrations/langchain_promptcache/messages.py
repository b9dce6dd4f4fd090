"""LangChain's messages -> the chat messages that the engine takes.

Knows LangChain's classes. What a content may hold is checked by the engine, which says in which
message something else than text stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from promptcache.errors import PromptError

ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (SystemMessage, "system"),
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (ToolMessage, "tool"),
)
SPOKEN = {"human": "user", "ai": "assistant"}
"""LangChain's names of roles that chat templates call otherwise."""


def to_engine(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """The messages as dicts with `role` and `content`.

    Raises PromptError for a message of a kind that no chat template has a role for, and for calls
    of tools, which are not served.
    """
    return [_to_engine(message, number) for number, message in enumerate(messages, 1)]


def _to_engine(message: BaseMessage, number: int) -> dict[str, Any]:
    if isinstance(message, AIMessage) and (message.tool_calls or message.invalid_tool_calls):
        raise PromptError(f"message {number} calls tools, which promptcache does not serve")
    return {"role": _role(message, number), "content": _content(message.content)}


def _role(message: BaseMessage, number: int) -> str:
    if isinstance(message, ChatMessage):
        return SPOKEN.get(message.role, message.role)
    for kind, role in ROLES:
        if isinstance(message, kind):
            return role
    raise PromptError(
        f"message {number} is a {type(message).__name__}; expected a system, human, AI, tool or "
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
