"""Figures of fidelity: exact match and KL against what is computed again, and against the time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from promptcache.bench.fidelity.rows import ALL, BASELINES, FULL, FidelityRow
from promptcache.bench.plots import (
    CARD,
    COLOURS,
    DASHES,
    INK,
    MARKS,
    STYLE,
    check_file,
    dress,
    pyplot,
)
from promptcache.bench.tables import setting
from promptcache.errors import OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ALONE = ("Exact", "Modular")
"""Policies with nothing to choose: `Modular` is where curves begin, `Exact` is not drawn."""
LEAST = 1e-7
"""The KL at which no difference at all is drawn."""
Value = Callable[[FidelityRow], float]


def draw(rows: Sequence[FidelityRow], file: Path) -> None:
    """Write the figure of the rows of all prompts.

    Raises MissingExtraError without matplotlib, OptionError for rows that have no figure.
    """
    check_file(file)
    whole = [row for row in rows if row.case == ALL and _is_drawn(row)]
    if not whole:
        raise OptionError(f"there are no rows of `bench fidelity` to draw in {file}")
    full = next((row for row in rows if row.case == ALL and row.policy == FULL), None)
    file.parent.mkdir(parents=True, exist_ok=True)
    with pyplot().rc_context(STYLE):
        figure = figure_of(whole, full)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def figure_of(rows: Sequence[FidelityRow], full: FidelityRow | None) -> Figure:
    """Two panels for each figure of merit; a curve for each kind of policy in each context."""
    from matplotlib.figure import Figure

    scored = all(row.exact_match is not None for row in rows)
    merits: list[tuple[str, Value]] = [
        ("mean KL of the first token, nats", lambda row: max(row.kl, LEAST))
    ]
    if scored:
        merits.insert(0, ("exact match", lambda row: row.exact_match or 0.0))
    costs: list[tuple[str, Value]] = [
        ("share of the modules' tokens computed again", lambda row: row.recomputed_share or 0.0),
        ("time to first token, share of full prefill's", lambda row: row.ttft_ratio),
    ]
    figure = Figure(
        figsize=(11.2, 3.9 * len(merits)), dpi=150, layout="constrained", facecolor=CARD
    )
    axes = figure.subplots(len(merits), len(costs), squeeze=False)
    for line, (merit, value) in zip(axes, merits, strict=True):
        for panel, (cost, place) in zip(line, costs, strict=True):
            _curves(panel, rows, place, value)
            if scored and merit == merits[0][0] and full is not None and full.exact_match:
                panel.axhline(full.exact_match, color=INK, linestyle=":", label="full prefill")
            panel.set_xlabel(cost)
            panel.set_ylabel(merit)
            if merit != "exact match":
                _on_a_log_scale(panel)
            dress(panel, f"{setting(rows[0]).partition(' (')[0]}, {rows[0].prompts:,} prompts")
    named = axes[0][0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    return figure


def curves(rows: Sequence[FidelityRow]) -> dict[str, list[FidelityRow]]:
    """The rows by kind of policy and context; curves begin with `Modular` of their context."""
    found: dict[str, list[FidelityRow]] = {}
    for context in dict.fromkeys(row.context for row in rows):
        mine = [row for row in rows if row.context == context]
        kinds = dict.fromkeys(_kind(row) for row in mine)
        for kind in kinds:
            start = "" if kind in ALONE else "Modular"
            along = [row for row in mine if _kind(row) in (kind, start)]
            shares = sorted(along, key=lambda row: row.recomputed_share or 0.0)
            found[f"{kind}, {context}"] = shares
    return found


def _curves(panel: Axes, rows: Sequence[FidelityRow], place: Value, value: Value) -> None:
    contexts = list(dict.fromkeys(row.context for row in rows))
    kinds = list(dict.fromkeys(_kind(row) for row in rows))
    for name, along in curves(rows).items():
        kind, context = name.split(", ")
        number = kinds.index(kind)
        panel.plot(
            [place(row) for row in along],
            [value(row) for row in along],
            color=COLOURS[number % len(COLOURS)],
            linestyle=DASHES[contexts.index(context) % len(DASHES)],
            marker=MARKS[number % len(MARKS)],
            markersize=4,
            linewidth=1.3,
            label=name,
        )


def _on_a_log_scale(panel: Axes) -> None:
    """With figures on the axis however little of it is shown."""
    from matplotlib.ticker import FuncFormatter, LogLocator

    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=30))
    panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.minorticks_off()


def _is_drawn(row: FidelityRow) -> bool:
    return row.policy not in BASELINES and _kind(row) != "Exact" and not row.compression


def _kind(row: FidelityRow) -> str:
    return row.policy.partition("(")[0]
