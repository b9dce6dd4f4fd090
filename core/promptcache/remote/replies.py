"""What a server says of an answer -> the reply that an engine in this process would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from promptcache.errors import RemoteError
from promptcache.reply import Reply, Stage, Usage
from promptcache.text.callforms import InvalidCall, ToolCall
from promptcache.trace import Provenance, Span, Trace


def reply_of(said: Mapping[str, Any]) -> Reply:
    """The whole reply. Raises RemoteError for an account that this version cannot read."""
    try:
        usage = said["usage"]
        return Reply(
            text=said["text"],
            usage=Usage(**{field.name: usage[field.name] for field in fields(Usage)}),
            trace=Trace(tuple(map(_span, said["trace"])), tuple(said["notes"])),
            ttft=said["ttft"],
            timings={Stage(name): seconds for name, seconds in said["timings"].items()},
            finish_reason=said["finish_reason"],
            token_ids=tuple(said["token_ids"]),
            model=said["model"],
            policy=said["policy"],
            tool_calls=tuple(ToolCall(**call) for call in said["tool_calls"]),
            invalid_tool_calls=tuple(InvalidCall(**call) for call in said["invalid_tool_calls"]),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RemoteError(
            f"the server's account of an answer cannot be read ({error!r}): is it a promptcache "
            "server of this version?"
        ) from error


def _span(said: Mapping[str, Any]) -> Span:
    return Span(**{**said, "provenance": Provenance(said["provenance"])})
