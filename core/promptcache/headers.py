"""What chains write in front of each document: a title, a number, a source.

Such a header belongs to its document, not to what all documents have in front of them, so a
context ends before the first one. Which lines are a header shows between two documents, once what
also follows the last document is taken away: that ends a document. Knows segments, not templates.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
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
        return _says(self.text)

    @property
    def label(self) -> re.Pattern[str]:
        """What other headers of its kind begin with: its first word, any number for a number."""
        word = re.match(r"\W*\w*\W*", self.text)
        assert word is not None
        return re.compile(re.sub(r"\d+", r"\\d+", re.escape(word[0].partition("\n")[0])))


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
    headers = [_without_rules(header, stem) for header in headers]
    others = headers[1:] or [headers[0]] * ("\n" + stem).endswith("\n" + headers[0].text)
    same = bool(others) and all(header == headers[0] for header in others)
    alike = len(last) - len(stem) == headers[0].breaks
    if same or not alike or not all(header.says for header in headers):
        return tuple(head)
    cut = _cut(stem, headers[0])
    if cut is None:
        return tuple(head)
    return (*head[:-1], *([replace(head[-1], text=cut)] if cut else []))


def _cut(stem: str, like: _Header) -> str | None:
    """`stem` without the header at its end, of as many lines as `like`; None if it has none."""
    lines = stem.split("\n")
    if len(lines) < like.lines:
        return None
    before, line = lines[: -like.lines], lines[-like.lines]
    labels = list(like.label.finditer(line))
    if labels and labels[0].start() > 0:  # the line begins with something else
        before.append(line[: labels[-1].start()])
    elif not labels and not before and not like.breaks:
        return None
    return "\n".join(before).rstrip()


def _headers(rest: Sequence[Segment]) -> list[_Header]:
    """What stands right before each document but the first, as far as one message goes."""
    between = [""]
    for segment in rest:
        if segment.kind is Kind.CONTROL:
            break
        if segment.kind is not Kind.MODULE:
            between[-1] += segment.text
        elif between[-1]:
            between.append("")
    *texts, tail = between
    return [_header(text, tail) for text in texts]


def _header(text: str, tail: str) -> _Header:
    """The header in a text between two documents; `tail` stands behind the last one."""
    *lines, last = text.split("\n")
    ends = 0
    for line, behind in zip(lines, tail.split("\n"), strict=False):
        if line != behind:
            break
        ends += 1
    text = "\n".join([*lines[ends:], last])
    stem = text.rstrip("\n")
    return _Header(stem.rpartition("\n\n")[2].lstrip("\n"), len(text) - len(stem))


def _without_rules(header: _Header, stem: str) -> _Header:
    """The header without the rules above it that do not stand above the first one in `stem`."""
    lines, above = header.text.split("\n"), stem.split("\n")
    while len(lines) > 1 and not _says(lines[0]) and above[-len(lines) :][0] != lines[0]:
        del lines[0]
    return replace(header, text="\n".join(lines))


def _says(text: str) -> bool:
    return any(char.isalnum() for char in text)
