"""Rows as tables: the same cells in a terminal and in a page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from rich.table import Table

from promptcache.bench.rows import (
    DecodeRow,
    LibraryRow,
    MemoryRow,
    Row,
    ServeRow,
    StoredRow,
    TtftRow,
)
from promptcache.reply import Stage


@dataclass(frozen=True, slots=True)
class Column:
    """A heading, and what stands under it for a row; words are set left, numbers right.

    A `wide` one stands on pages only: a terminal has no room for it.
    """

    heading: str
    cell: Callable[[Any], str]
    words: bool = False
    wide: bool = False


def duration(seconds: float) -> str:
    """Seconds as people read them: "0.52 ms", "34.1 ms", "1.27 s"."""
    if seconds >= 1:
        return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"
    milliseconds = seconds * 1e3
    return f"{milliseconds:.1f} ms" if milliseconds >= 10 else f"{milliseconds:.2f} ms"


def size(count: float) -> str:
    """Bytes as people read them: "512 bytes", "3.4 MB"."""
    for unit, bytes_of_it in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= bytes_of_it:
            return f"{count / bytes_of_it:.1f} {unit}"
    return f"{count:.0f} bytes"


def times(ratio: float | None) -> str:
    """A ratio: "38x", "1.14x"; a dash where there is none."""
    if ratio is None:
        return "-"
    return f"{ratio:.0f}x" if ratio >= 20 else f"{ratio:.1f}x" if ratio >= 5 else f"{ratio:.2f}x"


def _named(row: TtftRow | DecodeRow) -> str:
    return f"{row.case}, {row.policy}" if row.policy else row.case


COLUMNS: dict[type[Row], Sequence[Column]] = {
    TtftRow: (
        Column("case", _named, words=True),
        Column("documents", lambda row: str(row.order), words=True),
        Column("cached", lambda row: f"{row.cached_tokens:,}"),
        Column("new", lambda row: f"{row.new_tokens:,}"),
        Column("TTFT", lambda row: duration(row.ttft_seconds)),
        Column("from", lambda row: duration(row.ttft_low), wide=True),
        Column("to", lambda row: duration(row.ttft_high), wide=True),
        Column("speedup", lambda row: times(row.full_prefill_ratio)),
        Column("of limit", lambda row: times(row.limit_ratio)),
        Column("runs", lambda row: str(row.repeats), wide=True),
    ),
    DecodeRow: (
        Column("case", _named, words=True),
        Column("context", lambda row: f"{row.context_tokens:,}"),
        Column("tokens", lambda row: str(row.output_tokens)),
        Column("tokens / s", lambda row: f"{row.tokens_per_second:.2f}"),
        Column("from", lambda row: f"{row.low:.2f}", wide=True),
        Column("to", lambda row: f"{row.high:.2f}", wide=True),
        Column("this / generate", lambda row: times(row.ratio)),
        Column("runs", lambda row: str(row.repeats), wide=True),
    ),
    LibraryRow: (
        Column("library", lambda row: row.case, words=True),
        Column("documents", lambda row: f"{row.documents:,}"),
        Column("register all", lambda row: duration(row.register_seconds), wide=True),
        Column("recognise", lambda row: duration(row.find_seconds)),
        Column("worst", lambda row: duration(row.find_worst), wide=True),
        Column("parse stage", lambda row: duration(row.parse_seconds)),
        Column("worst", lambda row: duration(row.parse_worst), wide=True),
        Column("look-up stage", lambda row: duration(row.lookup_seconds)),
        Column("worst", lambda row: duration(row.lookup_worst), wide=True),
        Column("bytes / document", lambda row: f"{row.bytes_per_document:,}"),
        Column("prompts", lambda row: str(row.repeats)),
    ),
    MemoryRow: (
        Column("requests", lambda row: str(row.requests)),
        Column("cached", lambda row: f"{row.module_tokens:,}"),
        Column("new", lambda row: f"{row.new_tokens:,}"),
        Column("answer", lambda row: f"{row.output_tokens:,}"),
        Column("weights", lambda row: size(row.weights_bytes)),
        Column("peak beyond them", lambda row: size(row.peak_bytes)),
        Column("this / one request", lambda row: times(row.ratio)),
        Column("runs", lambda row: str(row.repeats), wide=True),
    ),
    StoredRow: (
        Column("tier", lambda row: row.case, words=True),
        Column("compression", lambda row: row.compression, words=True),
        Column("modules", lambda row: f"{row.modules:,}"),
        Column("tokens", lambda row: f"{row.module_tokens:,}"),
        Column("bytes", lambda row: size(row.stored_bytes)),
        Column("of the model's", lambda row: f"{row.ratio:.1%}"),
        Column("reading all", lambda row: duration(row.read_seconds)),
        Column("from", lambda row: duration(row.read_low), wide=True),
        Column("to", lambda row: duration(row.read_high), wide=True),
        Column("runs", lambda row: str(row.repeats), wide=True),
    ),
    ServeRow: (
        Column("case", lambda row: row.case, words=True),
        Column("at once", lambda row: str(row.clients)),
        Column("cached", lambda row: f"{row.module_tokens:,}"),
        Column("new", lambda row: f"{row.new_tokens:,}"),
        Column("answer", lambda row: f"{row.output_tokens:,}"),
        Column("requests / s", lambda row: f"{row.requests_per_second:.2f}"),
        Column("from", lambda row: f"{row.low:.2f}", wide=True),
        Column("to", lambda row: f"{row.high:.2f}", wide=True),
        Column("this / one by one", lambda row: times(row.ratio)),
        Column("requests", lambda row: str(row.requests), wide=True),
        Column("runs", lambda row: str(row.repeats), wide=True),
    ),
}


def _stage(stage: Stage, row: TtftRow) -> str:
    return duration(row.stages.get(str(stage), 0.0))


def stages_of(rows: Sequence[TtftRow]) -> Sequence[Column]:
    """What requests of ours spend their time on: the stages that these rows know of."""
    return (
        Column("policy", lambda row: row.policy, words=True),
        Column("documents", lambda row: row.order, words=True),
        *(
            Column(str(stage), partial(_stage, stage))
            for stage in Stage
            if any(str(stage) in row.stages for row in rows)
        ),
    )


def setting(row: Row) -> str:
    """What a row was measured on, in a line."""
    threads = "1 thread" if row.threads == 1 else f"{row.threads} threads"
    said = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    return f"{row.model}, {row.dtype}, on {row.device}, {threads} ({said})"


def terminal_table(rows: Sequence[Row], title: str = "") -> Table:
    """Rows of one kind for a terminal."""
    columns = [column for column in COLUMNS[type(rows[0])] if not column.wide]
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(
            column.heading, justify="left" if column.words else "right", no_wrap=not column.words
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in columns))
    return table


def page_table(rows: Iterable[Any], columns: Sequence[Column]) -> str:
    """Rows, or whatever the columns read, for a page."""
    lines = [
        [column.heading for column in columns],
        [":--" if column.words else "--:" for column in columns],
        *([column.cell(row) for column in columns] for row in rows),
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
