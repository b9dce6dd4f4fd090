"""A trace in a terminal: coloured text, its legend, and a table.

Colours come with a word each, so that none of it depends on seeing colours.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from promptcache.trace.spans import Provenance, Span

NAME = 32
"""Columns that the names of modules have at least, if they need them."""
_STYLES = {
    Provenance.EXACT: "black on green3",
    Provenance.APPROXIMATE: "black on sky_blue1",
    Provenance.ENCODED: "black on khaki1",
    Provenance.RECOMPUTED: "black on plum2",
    Provenance.NEW: "",
}


def coloured(spans: Sequence[Span]) -> Text:
    """The prompt, verbatim, each span in the colour of its provenance."""
    text = Text()
    for span in spans:
        text.append(span.text, style=_STYLES[span.provenance])
    return text


def legend() -> Text:
    """What the colours mean, a line each."""
    text = Text()
    for provenance in Provenance:
        text.append(f" {provenance} ", style=_STYLES[provenance])
        text.append(f" {provenance.meaning}\n")
    text.rstrip()
    return text


def table(spans: Sequence[Span]) -> Table:
    """A line for every span; the column of reasons is there if one has a reason."""
    noted = any(span.note for span in spans)
    drawn = Table(box=None, pad_edge=False, expand=noted)
    for column in ("position", "tokens"):
        drawn.add_column(column, justify="right", no_wrap=True, min_width=len(column))
    names = [short_name(span.module or "") for span in spans]
    widest = max(map(len, names), default=0)
    drawn.add_column("provenance", no_wrap=True, min_width=len(Provenance.APPROXIMATE))
    drawn.add_column("module", no_wrap=True, min_width=min(widest, NAME))
    drawn.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
    if noted:
        drawn.add_column("why", ratio=1)
    for span, name in zip(spans, names, strict=True):
        cells = (
            str(span.start),
            str(span.tokens),
            _provenance_text(span),
            Text(name),
            Text(shortened(span.text)),
            Text(span.note or ""),
        )
        drawn.add_row(*(cells if noted else cells[:-1]))
    return drawn


def short_name(module: str) -> str:
    """The end of a module's dotted name, a document's key by its first characters."""
    *before, last = module.split(".")[-2:]
    last = last[:8] + "…" if re.fullmatch("[0-9a-f]{16}", last) else last
    return ".".join([*before, last])


def shortened(text: str, width: int = 60) -> str:
    """A text's beginning, in one line."""
    flat = repr(text)[1:-1]
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _provenance_text(span: Span) -> Text:
    text = Text(str(span.provenance), style=_STYLES[span.provenance])
    if 0 < span.recomputed < span.tokens:
        text.append(f" ({span.recomputed} recomputed)")
    return text
