"""The engine's replies -> LlamaIndex's responses.

`raw` has the counts of tokens under the names that LlamaIndex's token counters read, and says for
every span of the prompt where it came from, in plain values.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import closing
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
from promptcache.text.callforms import ToolCall


def chat_response(
    reply: Reply, *, parallel: bool = True, streamed: str | None = None
) -> ChatResponse:
    """A whole answer with its calls of tools; one that could not be read stays in the text.

    Without `parallel`, it has the first call only. `streamed` is the text that a reader has
    already, if he reads piece by piece.
    """
    unread = [call.text for call in reply.invalid_tool_calls]
    text = "\n".join([*([reply.text] if reply.text or not unread else []), *unread])
    blocks: list[ContentBlock] = [TextBlock(text=text)]
    calls = reply.tool_calls if parallel else reply.tool_calls[:1]
    blocks += [
        ToolCallBlock(tool_call_id=call.id, tool_name=call.name, tool_kwargs=dict(call.arguments))
        for call in calls
    ]
    # Where programs that stream structured output look for them.
    also = {"tool_calls": [*map(_as_openai, calls)]} if calls else {}
    message = ChatMessage(role=MessageRole.ASSISTANT, blocks=blocks, additional_kwargs=also)
    delta = None if streamed is None else text[len(streamed) :]
    return ChatResponse(message=message, delta=delta, raw=raw_of(reply))


def completion_response(reply: Reply, *, streamed: str | None = None) -> CompletionResponse:
    """A whole continuation of a text."""
    delta = None if streamed is None else reply.text[len(streamed) :]
    return CompletionResponse(text=reply.text, delta=delta, raw=raw_of(reply))


def chat_pieces(
    pieces: Generator[str | Reply], *, parallel: bool = True
) -> Generator[ChatResponse]:
    """An answer as far as it is there, each time with what has come last."""
    text = ""
    with closing(pieces):
        for piece in pieces:
            if isinstance(piece, Reply):
                yield chat_response(piece, parallel=parallel, streamed=text)
            else:
                text += piece
                message = ChatMessage(text, role=MessageRole.ASSISTANT)
                yield ChatResponse(message=message, delta=piece)


def completion_pieces(pieces: Generator[str | Reply]) -> Generator[CompletionResponse]:
    """A continuation as far as it is there, each time with what has come last."""
    text = ""
    with closing(pieces):
        for piece in pieces:
            if isinstance(piece, Reply):
                yield completion_response(piece, streamed=text)
            else:
                text += piece
                yield CompletionResponse(text=text, delta=piece)


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


def _as_openai(call: ToolCall) -> dict[str, Any]:
    said = json.dumps(call.arguments, ensure_ascii=False)
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": said}}
