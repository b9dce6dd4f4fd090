"""Small charts as SVG: a value for each of the last requests, left to right, and those that failed.

They stretch to the width that there is; what they show is also said in words.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

from promptcache.bench.tables import duration
from promptcache.html import Html, element
from promptcache.server.page.history import Figure

PLACES = 40
"""Requests that a chart has room for, at least: fewer are not stretched over all of it."""


def hit_rate(figures: Sequence[Figure]) -> Html:
    """Which part of each prompt was reused: a bar from 0 to 100 %."""
    answered = [figure for figure in figures if figure.ttft is not None]
    tokens = sum(figure.tokens for figure in answered)
    reused = sum(figure.reused for figure in answered)
    if tokens:
        said = (
            f"{reused / tokens:.0%} of the prompt tokens of {_requests(len(answered))} were reused"
        )
    else:
        said = "nothing was answered yet"
    parts = [None if f.ttft is None else f.reused / max(f.tokens, 1) for f in figures]
    return _chart("Hit rate", f"{said}{_failed(figures)}", parts, "100 %", bars=True)


def ttft(figures: Sequence[Figure]) -> Html:
    """The time to the first token of each request: a dot, up to the longest."""
    times = [figure.ttft for figure in figures if figure.ttft is not None]
    longest = max(times, default=0.0)
    said = "nothing was answered yet"
    if times:
        said = f"median {duration(median(times))}, last {duration(times[-1])}, "
        said += f"longest {duration(longest)} of {_requests(len(times))}"
    parts = [None if f.ttft is None else f.ttft / (longest or 1) for f in figures]
    return _chart("Time to first token", f"{said}{_failed(figures)}", parts, duration(longest))


def _chart(
    name: str, said: str, parts: Sequence[float | None], top: str, *, bars: bool = False
) -> Html:
    """Parts from 0 to 1, each of a request; None for one that failed."""
    places = max(len(parts), PLACES)
    drawn, failed = "", ""
    for place, part in enumerate(parts):
        x = f"{place + 0.5:g}"
        if part is None:
            failed += f"M{x} 0V100"
        elif bars:
            drawn += f"M{x} 100V{100 - 100 * part:.1f}"
        else:
            drawn += f"M{x} {100 - 100 * part:.1f}h0"
    lines = element(
        "svg",
        element("path", d=f"M0 50H{places}", class_="half"),
        element("path", d=failed, class_="failed"),
        element("path", d=drawn, class_="bars" if bars else "dots"),
        viewBox=f"0 0 {places} 100",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{name} of each request, the oldest left: {said}",
    )
    return element(
        "figure",
        element("figcaption", element("b", name), f": {said}"),
        element(
            "div",
            element("span", top, class_="top", aria_hidden="true"),
            element("span", "0", class_="bottom", aria_hidden="true"),
            lines,
            class_="plot",
        ),
    )


def _failed(figures: Sequence[Figure]) -> str:
    failed = sum(figure.ttft is None for figure in figures)
    return f"; {failed} failed (dashed)" if failed else ""


def _requests(count: int) -> str:
    return "1 request" if count == 1 else f"{count} requests"
