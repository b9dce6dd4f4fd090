"""The engine's replies -> LlamaIndex's responses.

`raw` has the counts of tokens under the names that LlamaIndex's token counters read, and says for
every span of the prompt where it came from, in plain values.
"""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ContentBlock, ToolCallBlock
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    MessageRole,
    TextBlock,
)

from promptcache import Reply
from promptcache.report import report_of


def chat_response(reply: Reply, delta: str | None = None) -> ChatResponse:
    """A whole answer with its calls of tools; one that could not be read stays in the text."""
    unread = [call.text for call in reply.invalid_tool_calls]
    text = "\n".join([*([reply.text] if reply.text or not unread else []), *unread])
    blocks: list[ContentBlock] = [TextBlock(text=text)]
    blocks += [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments))
        for call in reply.tool_calls
    ]
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks)
    return ChatResponse(message=message, delta=delta, raw=raw_of(reply))


def chat_piece(text: str, delta: str) -> ChatResponse:
    """An answer as far as it is there, and what has come last."""
    return ChatResponse(message=ChatMessage(text, role=MessageRole.ASSISTANT), delta=delta)


def completion_response(reply: Reply, delta: str | None = None) -> CompletionResponse:
    """A whole continuation of a text."""
    return CompletionResponse(text=reply.text, delta=delta, raw=raw_of(reply))


def completion_piece(text: str, delta: str) -> CompletionResponse:
    """A continuation as far as it is there, and what has come last."""
    return CompletionResponse(text=text, delta=delta)


def raw_of(reply: Reply) -> dict[str, Any]:
    """How an answer came about; `ttft` and `timings` are in seconds.

    `cached_tokens` of the prompt's tokens were reused, `cache_creation_tokens` encoded and kept
    for later prompts.
    """
    usage = reply.usage
    counts = {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.reused_tokens,
            "cache_creation_tokens": usage.encoded,
        },
    }
    return {"usage": counts, **report_of(reply)}
