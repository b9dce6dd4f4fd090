"""The engine's replies -> LangChain's results.

`response_metadata` says how an answer came about, as `promptcache.report` has it.
"""

from __future__ import annotations

import json

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import InputTokenDetails, UsageMetadata
from langchain_core.messages.tool import (
    ToolCallChunk,
    invalid_tool_call,
    tool_call,
    tool_call_chunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult

from promptcache import Reply, Usage
from promptcache.report import report_of


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
        response_metadata=report_of(reply),
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
        response_metadata=report_of(reply),
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
