"""Figures of `bench ttft`: the time to the first token against cached tokens, and its stages.

Drawn on a light card of their own, so that they read the same on a light and a dark page, in
colours that are told apart without seeing red or green, with a mark and a dash of their own each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from promptcache.bench.groups import Group, grouped
from promptcache.bench.limit import NAME as LIMIT
from promptcache.bench.orders import FIRST
from promptcache.bench.rows import Row, TtftRow
from promptcache.bench.tables import duration, setting
from promptcache.bench.ttft import OURS
from promptcache.errors import MissingExtraError, OptionError
from promptcache.reply import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#B8A800")
"""Okabe and Ito's, the yellow darkened for a light ground."""
MARKS = "osD^vPX*"
DASHES = ("-", "--", "-.", (0, (3, 1, 1, 1)), (0, (5, 3)), (0, (1, 1)), ":", (0, (6, 1, 2, 1)))
CARD, INK, GRID = "#FBFBF8", "#1A1A1A", "#D8D8D2"
STYLE = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "svg.hashsalt": "promptcache",  # the same file for the same rows
}
SUFFIXES = (".png", ".svg", ".pdf")
NEAR = 4
"""A case that takes so many times as long as the fastest of ours gets no bar: it hid the rest."""
LIMIT_STAGES = {"copy": Stage.ASSEMBLE, "forward": Stage.PREFILL}


def check_file(file: Path) -> None:
    """Raise for a figure that could not be written: its kind, or what draws it, is missing."""
    if file.suffix.lower() not in SUFFIXES:
        raise OptionError(f"{file} is no figure; expected a name in {', '.join(SUFFIXES)}")
    pyplot()


def draw(rows: Sequence[Row], file: Path) -> None:
    """Write the figure of all groups in these rows.

    Raises MissingExtraError without matplotlib, OptionError for rows that have no figure.
    """
    check_file(file)
    groups = grouped(rows)
    if not groups:
        raise OptionError(f"there are no rows of `bench ttft` to draw in {file}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with pyplot().rc_context(STYLE):
        figure = figure_of(groups)
        figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def figure_of(groups: Sequence[Group]) -> Figure:
    """A line of panels for each group: its curve, where it has one, and its stages."""
    from matplotlib.figure import Figure

    columns = 2 if any(group.is_sweep for group in groups) else 1
    size = (5.6 * columns + 0.6, 3.9 * len(groups))
    figure = Figure(figsize=size, dpi=150, layout="constrained", facecolor=CARD)
    axes = figure.subplots(len(groups), columns, squeeze=False)
    for line, group in zip(axes, groups, strict=True):
        *before, last = line
        for panel in before:
            _curves(panel, group) if group.is_sweep else panel.set_axis_off()
        _stages(last, group)
    return figure


def _curves(panel: Axes, group: Group) -> None:
    for number, (name, rows) in enumerate(group.curves()):
        kind = number % len(COLOURS)
        x = [row.module_tokens for row in rows]
        colour = INK if name == LIMIT else COLOURS[kind]
        panel.plot(
            x,
            [row.ttft_seconds for row in rows],
            color=colour,
            linestyle=":" if name == LIMIT else DASHES[kind],
            marker=MARKS[kind],
            markersize=4,
            linewidth=2 if name.startswith(OURS) else 1.3,
            label=name,
        )
        low, high = ([getattr(row, end) for row in rows] for end in ("ttft_low", "ttft_high"))
        panel.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
    panel.set_xscale("log", base=2)
    panel.set_yscale("log")
    panel.set_xticks(
        sorted(group.sizes), [f"{size:,}" for size in sorted(group.sizes)], rotation=30
    )
    panel.minorticks_off()
    panel.set_xlabel("tokens in cached modules, documents shuffled where that was measured")
    panel.set_ylabel("time to first token, seconds")
    panel.legend(fontsize=7, frameon=False)
    dress(panel, setting(group.any).partition(" (")[0])


def _stages(panel: Axes, group: Group) -> None:
    rows = _bars(group.largest)
    names = [f"{row.policy or row.case}\n{row.order if row.policy else ''}" for row in rows]
    starts = [0.0] * len(rows)
    for number, stage in enumerate(Stage):
        widths = [_stage(row, stage) * 1e3 for row in rows]
        if not any(widths):
            continue
        panel.barh(names, widths, left=starts, color=COLOURS[number], edgecolor=CARD, label=stage)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for place, (row, end) in enumerate(zip(rows, starts, strict=True)):
        panel.text(end, place, f" {duration(row.ttft_seconds)}", va="center", fontsize=8)
    panel.set_xlim(0, max(starts, default=1.0) * 1.2)
    panel.invert_yaxis()
    panel.set_xlabel(f"milliseconds, {group.any.prompt} prompt, {max(group.sizes):,} tokens cached")
    panel.legend(
        fontsize=7, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=6
    )
    dress(panel, setting(group.any).partition(" (")[0])


def _bars(rows: Sequence[TtftRow]) -> list[TtftRow]:
    """The limit, and ours as far as they are to be compared with each other."""
    ours = [row for row in rows if row.case == OURS and row.order not in FIRST]
    least = min((row.ttft_seconds for row in ours), default=0.0)
    near = [row for row in ours if row.ttft_seconds <= NEAR * least]
    return [row for row in rows if row.case == LIMIT] + sorted(near, key=lambda r: r.ttft_seconds)


def _stage(row: TtftRow, stage: Stage) -> float:
    """Seconds of a stage; the limit's copy and forward are an assembly and a prefill."""
    names = [name for name, like in LIMIT_STAGES.items() if like is stage]
    return sum(row.stages.get(name, 0.0) for name in (str(stage), *names))


def dress(panel: Axes, title: str) -> None:
    """Give a panel the card's looks, and a title."""
    panel.set_facecolor(CARD)
    panel.grid(color=GRID, linewidth=0.6)
    panel.set_axisbelow(True)
    for side in ("top", "right"):
        panel.spines[side].set_visible(False)
    panel.set_title(title, fontsize=8, loc="left")


def pyplot() -> Any:
    """matplotlib. Raises MissingExtraError where it is not installed."""
    try:
        import matplotlib
    except ModuleNotFoundError as error:
        raise MissingExtraError("drawing figures", "bench") from error
    return matplotlib
