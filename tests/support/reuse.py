"""How much of documents a prompt took from the cache, by what its reply says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from promptcache import PromptCache, Reply
from promptcache.report import report_of

Told = Reply | Mapping[str, Any]
"""A reply, or what an integration hands on of it."""


def tokens_reused(told: Told) -> int:
    """The tokens of documents that were reused, preambles and earlier turns aside."""
    report = report_of(told) if isinstance(told, Reply) else told
    return sum(
        span["tokens"] - span["recomputed"]
        for span in report["provenance"]
        if span["module"] not in (None, "preamble", "conversation")
        and span["provenance"] in ("exact", "approximate")
    )


def share_reused(told: Told, texts: Iterable[str], engine: PromptCache) -> float:
    """Of the tokens of these texts, the share that was reused."""
    return tokens_reused(told) / sum(map(engine.count_tokens, texts))


def shares_reused(
    replies: Iterable[Reply], texts: Iterable[str], engine: PromptCache
) -> list[float]:
    """The share of each reply."""
    known = tuple(texts)
    return [share_reused(reply, known, engine) for reply in replies]
