"""Rows as benchmarks would write them, made up for tests of what is done with rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from promptcache.bench.baselines import FullPrefill
from promptcache.bench.limit import NAME as LIMIT
from promptcache.bench.rows import DecodeRow, LibraryRow, MemoryRow, TtftRow
from promptcache.bench.ttft import OURS
from promptcache.reply import Stage

SETTING: Mapping[str, Any] = {
    "model": "tiny",
    "dtype": "float32",
    "device": "a machine, cpu",
    "threads": 1,
    "versions": {"promptcache": "0.1.0", "commit": "abc1234"},
}
STAGES = {str(stage): 0.001 for stage in Stage}


def ttft_row(**values: Any) -> TtftRow:
    """A row of ours, 1,024 tokens shuffled in 6 ms, but for what is given."""
    usual: dict[str, Any] = {
        **SETTING,
        "run": "a run",
        "case": OURS,
        "prompt": "pml",
        "policy": "Modular()",
        "order": "shuffled",
        "documents": 4,
        "module_tokens": 1024,
        "cached_tokens": 1024,
        "new_tokens": 32,
        "ttft_seconds": 0.006,
        "ttft_low": 0.005,
        "ttft_high": 0.007,
        "repeats": 5,
        "full_prefill_ratio": 40.0,
        "limit_ratio": 1.2,
        "stages": STAGES,
        "attention": "sdpa",
    }
    return TtftRow(**usual | values)


def case_rows(tokens: int, **values: Any) -> list[TtftRow]:
    """What a run at one size has at least: ours in two orders, full prefill, the limit."""
    size = {"module_tokens": tokens, "cached_tokens": tokens, **values}
    full = {"case": FullPrefill.name, "policy": "", "cached_tokens": 0, "stages": {}}
    limit = {"case": LIMIT, "policy": "", "order": "in-order", "limit_ratio": 1.0}
    return [
        ttft_row(**size),
        ttft_row(**size | {"order": "in-order"}),
        ttft_row(**size | full | {"ttft_seconds": tokens / 4096, "full_prefill_ratio": 1.0}),
        ttft_row(**size | limit | {"stages": {"copy": 0.001, "forward": 0.003}}),
    ]


def decode_row(**values: Any) -> DecodeRow:
    """A row of `bench decode`."""
    usual: dict[str, Any] = {
        **SETTING,
        "case": OURS,
        "policy": "Modular()",
        "context_tokens": 5157,
        "output_tokens": 64,
        "tokens_per_second": 12.5,
        "low": 12.0,
        "high": 13.0,
        "ratio": 1.5,
        "repeats": 3,
        "attention": "sdpa",
    }
    return DecodeRow(**usual | values)


def library_row(**values: Any) -> LibraryRow:
    """A row of `bench scale`, of its library half."""
    times = {"find_seconds", "find_worst", "parse_seconds", "parse_worst"}
    usual: dict[str, Any] = {
        **SETTING,
        **dict.fromkeys(times | {"lookup_seconds", "lookup_worst"}, 0.002),
        "case": "distinct",
        "documents": 100_000,
        "document_chars": 1000,
        "prompt_chars": 8000,
        "register_seconds": 2.0,
        "bytes_per_document": 1500,
        "repeats": 10,
    }
    return LibraryRow(**usual | values)


def memory_row(**values: Any) -> MemoryRow:
    """A row of `bench scale`, of its memory half."""
    usual: dict[str, Any] = {
        **SETTING,
        "case": "requests at once",
        "requests": 8,
        "module_tokens": 5120,
        "new_tokens": 32,
        "output_tokens": 4,
        "weights_bytes": 2_400_000_000,
        "peak_bytes": 400_000_000,
        "ratio": 1.1,
        "repeats": 1,
    }
    return MemoryRow(**usual | values)
