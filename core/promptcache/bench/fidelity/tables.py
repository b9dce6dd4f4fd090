"""Rows of fidelity as tables: what a terminal shows, and what the page does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from rich.table import Table

from promptcache.bench.fidelity.rows import BASELINES, FULL, FidelityRow
from promptcache.bench.tables import Column

ROUNDING = 1e-9
"""KL that float32's rounding alone makes."""


def share(value: float | None) -> str:
    """A share: "97.5 %"; a dash where there is none."""
    return "-" if value is None else f"{value:.1%}".replace("%", " %")


def number(value: float) -> str:
    """A KL: two digits that count, and no more zeros than people read; rounding as such."""
    if value < ROUNDING:
        return "0" if value == 0 else f"<{ROUNDING:.0e}".replace("e-0", "e-")
    return f"{value:.1e}" if value < 1e-4 else f"{value:.2g}" if value < 10 else f"{value:.0f}"


def points(low: float | None, high: float | None) -> str:
    """An interval of a difference, in percentage points."""
    return "-" if low is None or high is None else f"{100 * low:+.1f} to {100 * high:+.1f}"


def policy(row: FidelityRow) -> str:
    """What a case is called: its policy, as short as it can be written for `--policy`."""
    if row.policy in BASELINES:
        return "full prefill" if row.policy == FULL else row.policy
    return re.sub(r"\w+=", "", row.policy)


def context(row: FidelityRow) -> str:
    """What a case's modules were encoded after, and what they were rounded to if to anything."""
    return f"{row.context}, {row.compression}" if row.compression else row.context or "-"


POLICY = Column("policy", policy, words=True)
CONTEXT = Column("context", context, words=True)
KL = (
    Column("KL", lambda row: number(row.kl)),
    Column("interval", lambda row: f"{number(row.kl_low)} to {number(row.kl_high)}", wide=True),
    Column("median", lambda row: number(row.kl_median), wide=True),
    Column("95th", lambda row: number(row.kl_p95), wide=True),
    Column("99th", lambda row: number(row.kl_p99), wide=True),
)
TOP1 = Column("top-1", lambda row: share(row.top1))
ANSWERS = Column("answers", lambda row: share(row.answers))
COST = (
    Column("again", lambda row: share(row.recomputed_share)),
    Column("FLOPs", lambda row: share(row.flops_share)),
    Column("TTFT", lambda row: share(row.ttft_ratio)),
)
CHECK: Sequence[Column] = (POLICY, CONTEXT, *KL, TOP1, ANSWERS, *COST)
"""What a check shows of every case."""
LEGEND = (
    "KL: of the first token, against full prefill, in nats. top-1: steps with the same best token. "
    "answers: the same whole answer. again: tokens of modules that are computed again. FLOPs and "
    "TTFT: operations and time to the first token, of a full prefill's."
)
"""What the columns of a check are."""
FIDELITY: Sequence[Column] = (
    POLICY,
    CONTEXT,
    Column("exact match", lambda row: share(row.exact_match)),
    Column("difference", lambda row: points(row.exact_match_low, row.exact_match_high), wide=True),
    Column("F1", lambda row: share(row.f1)),
    Column("difference", lambda row: points(row.f1_low, row.f1_high), wide=True),
    *KL,
    replace(TOP1, wide=True),
    replace(ANSWERS, wide=True),
    *COST,
)
"""What a benchmark with right answers shows."""


def terminal_table(
    rows: Sequence[FidelityRow], columns: Sequence[Column], title: str = ""
) -> Table:
    """The rows for a terminal."""
    table = Table(title=title or None, title_justify="left", box=None, padding=(0, 1, 0, 0))
    shown = [column for column in columns if not column.wide]
    for column in shown:
        table.add_column(
            column.heading, justify="left" if column.words else "right", no_wrap=not column.words
        )
    for row in rows:
        table.add_row(*(column.cell(row) for column in shown))
    return table
