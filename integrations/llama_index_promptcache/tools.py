"""LlamaIndex's tools -> what a request is given of them, and the calls in its answer -> theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import ToolCallBlock
from llama_index.core.llms import ChatMessage, ChatResponse
from llama_index.core.llms.llm import ToolSelection
from llama_index.core.tools import BaseTool

from promptcache.errors import OptionError


def request_with(
    tools: Sequence[BaseTool],
    said: str | ChatMessage | None,
    history: Sequence[ChatMessage] | None,
    given: Mapping[str, Any],
    *,
    required: bool,
    parallel: bool,
) -> dict[str, Any]:
    """The arguments of a chat with tools; `given` are those that its caller has beside them.

    A `tool_choice` that was given stands above `required`. Without `parallel`, an answer has one
    call.
    """
    last = [] if said is None else [ChatMessage(said) if isinstance(said, str) else said]
    choice = {"tool_choice": "any"} if required and tools else {}
    own = {name: value for name, value in given.items() if value is not None}
    return {
        "messages": [*(history or []), *last],
        "tools": described(tools),
        "parallel_tool_calls": parallel,
        **choice,
        **own,
    }


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
