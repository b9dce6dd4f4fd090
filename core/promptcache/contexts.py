"""Which part of a recognised prompt is its preamble: what its documents are encoded after.

A prompt of a schema says so itself. In any other prompt it is a declared preamble that the prompt
begins with; otherwise everything before the first document. Prompts that put the question first
would make that a new context every time: then the longest part common to them is learned, once and
logged, and counts as declared from there on.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from itertools import takewhile
from threading import Lock

from promptcache.segments import Kind, Segment, joined

log = logging.getLogger("promptcache")

REMEMBERED = 64
"""Prompts' beginnings that are compared with a new one when a context may be learned."""
WORTHWHILE = 16
"""Characters of content that two prompts must share for their common part to be a context."""


class Contexts:
    """The preambles that one engine knows. Safe to use from several threads."""

    def __init__(self, *, learn: bool = True) -> None:
        self._learn = learn
        self._declared: list[str] = []
        self._seen: deque[tuple[Segment, ...]] = deque(maxlen=REMEMBERED)
        self._lock = Lock()

    @property
    def declared(self) -> tuple[str, ...]:
        """Every declared or learned preamble, as prompt text, longest first."""
        return tuple(self._declared)

    def declare(self, preamble: str) -> None:
        """Make `preamble`, prompt text with the template's own around it, a known context."""
        with self._lock:
            if preamble and preamble not in self._declared:
                self._declared.append(preamble)
                self._declared.sort(key=len, reverse=True)

    def mark(self, segments: Sequence[Segment]) -> tuple[Segment, ...]:
        """The segments with their preamble marked, split where it ends inside one."""
        end = next((i for i, s in enumerate(segments) if s.kind is Kind.MODULE), None)
        head = tuple(segments[:end])
        text = joined(head)
        length = self._known(text)
        if length is None:
            if end is None:
                return tuple(replace(s, preamble=False) for s in segments)
            length = self._length(head, text)
        return (*_split(head, length), *segments[len(head) :])

    def _known(self, text: str) -> int | None:
        return next((len(p) for p in self._declared if text.startswith(p)), None)

    def _length(self, head: tuple[Segment, ...], text: str) -> int:
        """How much of a beginning that nobody declared is context; learns from earlier ones."""
        if not self._learn:
            return len(text)
        with self._lock:
            if head in self._seen:
                return len(text)
            for earlier in self._seen:
                common = _common(head, earlier)
                if common:
                    break
            else:
                self._seen.append(head)
                return len(text)
        self.declare(common)
        log.info(
            "prompts differ before their first document; documents are encoded after the part "
            "that they share from now on: %r",
            common,
        )
        return len(common)


def _common(a: Sequence[Segment], b: Sequence[Segment]) -> str:
    """What two beginnings share, cut at a segment's edge or at a line's; "" if too little."""
    shared, content = "", 0
    for mine, theirs in zip(a, b, strict=False):
        if mine.kind is not theirs.kind:
            break
        part = mine.text if mine.text == theirs.text else _common_lines(mine, theirs)
        shared += part
        content += len(part) if mine.kind is not Kind.CONTROL else 0
        if part != mine.text:
            break
    return shared if content >= WORTHWHILE else ""


def _common_lines(a: Segment, b: Segment) -> str:
    """Whole lines that two texts begin with, without the line break that ends them."""
    if a.kind is Kind.CONTROL:
        return ""
    pairs = zip(a.text, b.text, strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    return a.text[:shared].rpartition("\n")[0].rstrip()


def _split(head: Sequence[Segment], length: int) -> list[Segment]:
    """Mark the first `length` characters as preamble, and nothing else.

    Control text is never cut, so that its control tokens stay whole: a preamble that ends inside
    ends before it.
    """
    marked: list[Segment] = []
    for segment in head:
        inside = max(0, min(length, len(segment.text)))
        if segment.kind is Kind.CONTROL and inside < len(segment.text):
            inside = 0
        length = length - inside if inside == len(segment.text) else 0
        first, rest = segment.text[:inside], segment.text[inside:]
        if first:
            marked.append(replace(segment, text=first, preamble=True))
        if rest:
            marked.append(replace(segment, text=rest, preamble=False))
    return marked
