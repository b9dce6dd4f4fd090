"""What chains write in front of each document: a title, a number, a source.

Such a header belongs to its document, not to what all documents have in front of them, so a
context ends before the first one. Which lines are a header shows between two documents. Knows
segments, not templates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from promptcache.segments import Kind, Segment


@dataclass(frozen=True, slots=True)
class _Header:
    """The last paragraph between two documents, and the line breaks after it."""

    text: str
    breaks: int

    @property
    def lines(self) -> int:
        return self.text.count("\n") + 1

    @property
    def says(self) -> bool:
        """Whether it is more than a rule."""
        return any(char.isalnum() for char in self.text)


def without_header(head: Sequence[Segment], rest: Sequence[Segment]) -> tuple[Segment, ...]:
    """`head`, what stands before the first document, without that document's own header.

    `rest` begins with that document. A header that is the same before every document is left: it
    is the same in every prompt.
    """
    headers = list(_headers(rest))
    if not headers or not head or head[-1].kind is not Kind.TEXT:
        return tuple(head)
    last = head[-1].text
    stem = last.rstrip("\n")
    others = headers[1:] or [headers[0]] * ("\n" + stem).endswith("\n" + headers[0].text)
    same = bool(others) and all(header == headers[0] for header in others)
    alike = len(last) - len(stem) == headers[0].breaks
    if same or not alike or not all(header.says for header in headers):
        return tuple(head)
    cut = "\n".join(stem.split("\n")[: -headers[0].lines]).rstrip()
    return (*head[:-1], *([replace(head[-1], text=cut)] if cut else []))


def _headers(rest: Sequence[Segment]) -> Iterator[_Header]:
    """What stands right before each document but the first, as far as one message goes."""
    between = ""
    for segment in rest:
        if segment.kind is Kind.CONTROL:
            return
        if segment.kind is not Kind.MODULE:
            between += segment.text
        elif between:
            yield _header(between)
            between = ""


def _header(text: str) -> _Header:
    stem = text.rstrip("\n")
    return _Header(stem.rpartition("\n\n")[2].lstrip("\n"), len(text) - len(stem))
