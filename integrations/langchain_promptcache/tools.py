"""LangChain's tools -> the descriptions that the engine takes.

Knows what LangChain users pass as a tool, not what a model makes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from textwrap import shorten
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from promptcache.errors import OptionError

ToolLike = Mapping[str, Any] | type | Callable[..., Any] | BaseTool
"""A LangChain tool, a function, a pydantic or TypedDict class, or a JSON schema."""


def described(tools: Sequence[ToolLike]) -> list[dict[str, Any]]:
    """The tools as functions with JSON schemas. Raises OptionError for what is none."""
    if isinstance(tools, str | Mapping) or not isinstance(tools, Sequence):
        raise OptionError(f"tools is {tools!r:.80}; expected a list of tools")
    return [_described(tool, number) for number, tool in enumerate(tools, 1)]


def _described(tool: ToolLike, number: int) -> dict[str, Any]:
    expected = "a LangChain tool, a function, a class with fields, or a JSON schema with a name"
    try:
        found = convert_to_openai_tool(tool)
    except (ValueError, TypeError, AttributeError, KeyError) as fault:
        reason = shorten(str(fault), 240, placeholder=" ...")
        raise OptionError(f"tool {number}, {tool!r:.80}, is not {expected}: {reason}") from fault
    if not isinstance(found.get("function"), dict) or not found["function"].get("name"):
        raise OptionError(
            f"tool {number} is of type {found.get('type')!r}, which runs at a provider; expected "
            f"{expected}"
        )
    return found
