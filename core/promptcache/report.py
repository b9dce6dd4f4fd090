"""A reply in plain values: what integrations hand on beside its text.

It says what was reused and what was computed, span by span.
"""

from __future__ import annotations

from typing import Any

from promptcache.reply import Reply
from promptcache.trace import Span

SHOWN = 60
"""Characters of a span's text that are kept, to tell by."""


def report_of(reply: Reply) -> dict[str, Any]:
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
