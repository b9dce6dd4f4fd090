"""Chat messages, as the engine takes them, -> roles and texts: all that PML can say of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from promptcache.errors import PromptError, valid
from promptcache.messages import MessageLike
from promptcache.pml.checks import ROLES
from promptcache.templates.parts import Spoken


def spoken_of(messages: Iterable[MessageLike]) -> Iterator[Spoken]:
    """Role and text of each message.

    Raises PromptError for a message that is more than text (an image, a call of a tool, a text
    block with `cache_control`) or that has a role which PML has not.
    """
    for number, message in enumerate(messages, 1):
        role = message["role"]
        if role not in ROLES:
            raise PromptError(
                f"message {number} has the role {role!r}, which PML has not{valid(role, ROLES)}"
            )
        if more := [name for name in message if message[name] and name not in ("role", "content")]:
            raise PromptError(f"message {number} has {more[0]!r}, which PML has not")
        content = message["content"]
        blocks = [content] if isinstance(content, str) else content
        yield role, "".join(_text(block, number) for block in blocks)


def _text(block: str | dict[str, Any], number: int) -> str:
    if isinstance(block, str):
        return block
    kind, text = block.get("type"), block.get("text")
    if kind != "text" or not isinstance(text, str):
        raise PromptError(f"message {number} holds a block of type {kind!r}; PML holds text only")
    if block.get("cache_control"):
        raise PromptError(f"message {number} marks a module with cache_control, not with PML")
    return text
