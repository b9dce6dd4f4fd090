"""LlamaIndex's tools -> the descriptions that the engine takes, and its calls -> theirs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from promptcache.errors import OptionError


def described(tools: Iterable[BaseTool]) -> list[dict[str, Any]]:
    """Name, description and parameters of each tool, as chat templates take them."""
    found = []
    for tool in tools:
        if not isinstance(tool, BaseTool):
            raise OptionError(f"{tool!r:.80} is no tool; expected for example a FunctionTool")
        found.append(tool.metadata.to_openai_tool(skip_length_check=True))
    return found


def calls_of(response: ChatResponse) -> list[ToolSelection]:
    """The calls in an answer."""
    return [
        ToolSelection(
            tool_id=block.tool_call_id or "",
            tool_name=block.tool_name,
            tool_kwargs=block.tool_kwargs if isinstance(block.tool_kwargs, dict) else {},
        )
        for block in response.message.blocks
        if isinstance(block, ToolCallBlock)
    ]
