"""The provenance of a prompt, as people look at it: coloured text, a table, HTML."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from promptcache.html import block
from promptcache.trace import terminal
from promptcache.trace.html import trace_html
from promptcache.trace.spans import Provenance, Span

__all__ = ["Provenance", "Span", "Trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Every span of a prompt in order, and what else there is to say about it."""

    spans: tuple[Span, ...]
    warnings: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Span]:
        return iter(self.spans)

    def __len__(self) -> int:
        return len(self.spans)

    def __repr__(self) -> str:
        return f"<Trace of {len(self)} spans, {len(self.warnings)} warnings>"

    def __str__(self) -> str:
        console = Console(width=100, color_system=None, force_terminal=False)
        with console.capture() as capture:
            console.print(terminal.table(self.spans))
        return "\n".join([capture.get().rstrip(), *self._warning_lines()])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        spans = self.spans
        yield Group(
            terminal.coloured(spans), Text(), terminal.legend(), Text(), terminal.table(spans)
        )
        for line in self._warning_lines():
            yield Text(line, style="bold")

    def _repr_html_(self) -> str:
        return block(trace_html(self.spans, self.warnings))

    def _warning_lines(self) -> list[str]:
        return [f"note: {warning}" for warning in self.warnings]
