"""The engine's replies -> LangChain's results.

`response_metadata` says what was reused and what was computed, span by span, in plain values.
"""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import (
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from promptcache import Reply, Span, Usage

SHOWN = 60
"""Characters of a span's text that are kept, to tell by."""


def result_of(reply: Reply) -> ChatResult:
    """A whole answer."""
    message = AIMessage(
        content=reply.text,
        tool_calls=[
            tool_call(name=call.name, args=call.arguments, id=call.id) for call in reply.tool_calls
        ],
        invalid_tool_calls=[
            invalid_tool_call(name=call.name, args=call.text, id=None, error=call.reason)
            for call in reply.invalid_tool_calls
        ],
        usage_metadata=usage_of(reply.usage),
        response_metadata=metadata_of(reply),
    )
    return ChatResult(generations=[ChatGeneration(message=message)])


def chunk_of(piece: str) -> ChatGenerationChunk:
    """A piece of an answer."""
    return ChatGenerationChunk(message=AIMessageChunk(content=piece))


def last_chunk_of(reply: Reply) -> ChatGenerationChunk:
    """The end of an answer: no text, its calls, and all there is to say about it."""
    message = AIMessageChunk(
        content="",
        tool_call_chunks=_call_chunks(reply),
        usage_metadata=usage_of(reply.usage),
        response_metadata=metadata_of(reply),
        chunk_position="last",
    )
    return ChatGenerationChunk(message=message)


def _call_chunks(reply: Reply) -> list[ToolCallChunk]:
    """The calls as LangChain's chunks, each of them whole.

    LangChain repairs what is broken JSON, and so would make calls of what is none: the text of an
    invalid call that begins as JSON has the reason in front.
    """
    said = [(call.name, json.dumps(call.arguments), call.id) for call in reply.tool_calls]
    chunks = [
        tool_call_chunk(name=name, args=args, id=id_, index=index)
        for index, (name, args, id_) in enumerate(said)
    ]
    for index, call in enumerate(reply.invalid_tool_calls, len(chunks)):
        text = f"{call.reason}: {call.text}" if call.text[:1] in ("{", "[") else call.text
        chunks.append(tool_call_chunk(name=call.name, args=text, id=None, index=index))
    return chunks


def usage_of(usage: Usage) -> UsageMetadata:
    """Counts of tokens: `cache_read` were reused, `cache_creation` encoded for later prompts."""
    return UsageMetadata(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        total_tokens=usage.input_tokens + usage.output_tokens,
        input_token_details=InputTokenDetails(
            cache_read=usage.reused_tokens, cache_creation=usage.encoded
        ),
    )


def metadata_of(reply: Reply) -> dict[str, Any]:
    """How the answer came about. `ttft` and `timings` are in seconds."""
    return {
        "model_name": reply.model,
        "finish_reason": reply.finish_reason,
        "policy": reply.policy,
        "ttft": reply.ttft,
        "timings": {str(stage): seconds for stage, seconds in reply.timings.items()},
        "provenance": [_span(span) for span in reply.trace],
        "notes": list(reply.trace.warnings),
    }


def _span(span: Span) -> dict[str, Any]:
    text = span.text if len(span.text) <= SHOWN else span.text[: SHOWN - 1] + "…"
    return {
        "text": text,
        "start": span.start,
        "tokens": span.tokens,
        "provenance": str(span.provenance),
        "recomputed": span.recomputed,
        "module": span.module,
        "context": span.context,
        "tier": span.tier,
        "note": span.note,
    }
