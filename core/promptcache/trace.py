"""The provenance of a prompt, as people look at it: coloured text, a table, HTML.

Colours come with a letter or a word each, so that none of it depends on seeing colours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from html import escape

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text


class Provenance(StrEnum):
    """Where a span's attention states came from."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    ENCODED = "encoded"
    RECOMPUTED = "recomputed"
    NEW = "new"

    @property
    def meaning(self) -> str:
        """One line on what the word says."""
        return _MEANINGS[self]


NAME = 32
"""Columns that the names of modules have at least, if they need them."""
_MEANINGS = {
    Provenance.EXACT: "reused; equal to a full prefill's",
    Provenance.APPROXIMATE: "reused; encoded apart from what stands before it here",
    Provenance.ENCODED: "missing; encoded now",
    Provenance.RECOMPUTED: "part of a module; computed again",
    Provenance.NEW: "part of no module; computed",
}
_STYLES = {
    Provenance.EXACT: "black on green3",
    Provenance.APPROXIMATE: "black on sky_blue1",
    Provenance.ENCODED: "black on khaki1",
    Provenance.RECOMPUTED: "black on plum2",
    Provenance.NEW: "",
}
_HTML = {
    Provenance.EXACT: "#b7e4c0",
    Provenance.APPROXIMATE: "#bfdcf5",
    Provenance.ENCODED: "#f5e6a3",
    Provenance.RECOMPUTED: "#ead0f0",
    Provenance.NEW: "transparent",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive prompt tokens of one origin.

    `recomputed` counts its tokens that were computed again although a module has them. `tier` and
    `key` say where its attention states were found; `note` gives the reason of a miss.
    """

    text: str
    tokens: int
    start: int
    provenance: Provenance
    recomputed: int = 0
    module: str | None = None
    context: str | None = None
    tier: str | None = None
    key: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """Every span of a prompt in order, and what else there is to say about it."""

    spans: tuple[Span, ...]
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(self._table())
        return "\n".join([capture.get().rstrip(), *self._warning_lines()])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Group(self._coloured(), Text(), self._legend(), Text(), self._table())
        for line in self._warning_lines():
            yield Text(line, style="bold")

    def _repr_html_(self) -> str:
        legend = " ".join(_html_span(str(p), p, p.meaning) for p in Provenance)
        body = "".join(_html_span(s.text, s.provenance, _hover(s)) for s in self.spans)
        warnings = "".join(f"<p>{escape(line)}</p>" for line in self._warning_lines())
        return (
            f'<div style="font-family:monospace"><p>{legend}</p>'
            f'<div style="white-space:pre-wrap">{body}</div>{warnings}</div>'
        )

    def _coloured(self) -> Text:
        text = Text()
        for span in self.spans:
            text.append(span.text, style=_STYLES[span.provenance])
        return text

    def _legend(self) -> Text:
        legend = Text()
        for provenance in Provenance:
            legend.append(f" {provenance} ", style=_STYLES[provenance])
            legend.append(f" {provenance.meaning}\n")
        legend.rstrip()
        return legend

    def _table(self) -> Table:
        noted = any(span.note for span in self.spans)
        table = Table(box=None, pad_edge=False, expand=noted)
        for column in ("position", "tokens"):
            table.add_column(column, justify="right", no_wrap=True, min_width=len(column))
        names = [_short_name(span.module or "") for span in self.spans]
        widest = max(map(len, names), default=0)
        table.add_column("provenance", no_wrap=True, min_width=len(Provenance.APPROXIMATE))
        table.add_column("module", no_wrap=True, min_width=min(widest, NAME))
        table.add_column("text", no_wrap=True, overflow="ellipsis", ratio=1)
        if noted:
            table.add_column("why", ratio=1)
        for span, name in zip(self.spans, names, strict=True):
            cells = (
                str(span.start),
                str(span.tokens),
                _provenance_text(span),
                Text(name),
                Text(_shortened(span.text)),
                Text(span.note or ""),
            )
            table.add_row(*(cells if noted else cells[:-1]))
        return table

    def _warning_lines(self) -> list[str]:
        return [f"note: {warning}" for warning in self.warnings]


def _provenance_text(span: Span) -> Text:
    text = Text(str(span.provenance), style=_STYLES[span.provenance])
    if 0 < span.recomputed < span.tokens:
        text.append(f" ({span.recomputed} recomputed)")
    return text


def _short_name(module: str) -> str:
    """The end of a module's dotted name, a document's key by its first characters."""
    *before, last = module.split(".")[-2:]
    last = last[:8] + "…" if re.fullmatch("[0-9a-f]{16}", last) else last
    return ".".join([*before, last])


def _shortened(text: str, width: int = 60) -> str:
    flat = repr(text)[1:-1]
    return flat if len(flat) <= width else flat[: width - 1] + "…"


def _hover(span: Span) -> str:
    facts = [f"{span.provenance}: {span.provenance.meaning}", f"{span.tokens} tokens"]
    for name, value in (
        ("module", span.module),
        ("context", span.context),
        ("tier", span.tier),
        ("key", span.key),
        ("why", span.note),
    ):
        if value:
            facts.append(f"{name} {value}")
    return ", ".join(facts)


def _html_span(text: str, provenance: Provenance, hover: str) -> str:
    colour = _HTML[provenance]
    dark = "color:#111;" if colour != "transparent" else ""
    return (
        f'<span style="background:{colour};{dark}" title="{escape(hover, quote=True)}">'
        f"{escape(text)}</span>"
    )
