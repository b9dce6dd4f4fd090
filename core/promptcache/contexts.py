"""Which part of a recognised prompt is its preamble: what its documents are encoded after.

A prompt of a schema says so itself. In any other prompt it is a declared preamble that the prompt
begins with; otherwise everything before the first document and its header, or, where turns of a
conversation stand between, the system message, or else what its own message has in front of it.
Prompts that put the question first would make that a new context every time: when three of them
have begun differently, the part common to them is learned, logged once, and counts as declared
from there on. A beginning that comes again stays the context that it was.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import takewhile
from threading import Lock

from promptcache.headers import without_header
from promptcache.segments import Kind, Segment, joined

log = logging.getLogger("promptcache")

REMEMBERED = 64
"""Beginnings that are compared with a new one when a context may be learned."""
LEARNED = 64
"""Learned contexts that are kept: conversations without a system message each have their own."""
PASSING = 64
"""Preambles that are kept of prompts which brought their schema along."""
EVIDENCE = 3
"""Prompts that must begin differently before what they share is learned."""
WORTHWHILE = 16
"""Characters of content, the template's own text aside, that make a context of its own."""


class Contexts:
    """The preambles that one engine knows. Safe to use from several threads."""

    def __init__(self, *, learn: bool = True) -> None:
        self._learn = learn
        self._declared: list[str] = []
        self._passing: dict[str, None] = {}
        """The last used last."""
        self._for_documents: dict[str, set[str]] = {}
        """Preambles with hardly any content, and the documents that were cached after each."""
        self._learned: dict[str, None] = {}
        """The last used last."""
        self._seen: dict[tuple[Segment, ...], int] = {}
        self._lock = Lock()

    @property
    def known(self) -> tuple[str, ...]:
        """Every preamble that counts for any prompt, declared before learned, as prompt text."""
        return (*self._preambles(), *_longest_first(self._learned))

    def declare(
        self,
        preamble: Sequence[Segment],
        documents: Iterable[str] = (),
        *,
        lasting: bool = True,
    ) -> None:
        """Make these segments, the template's own text around them included, a known context.

        One that is not `lasting` is known until `PASSING` others were declared after it.
        One with hardly any content counts only for prompts whose first document is one of
        `documents`: others, which have only their template in common, would lose their own.
        """
        text = joined(preamble)
        with self._lock:
            if content_of(preamble) >= WORTHWHILE and not lasting:
                _use(self._passing, text, PASSING)
            elif content_of(preamble) >= WORTHWHILE:
                _add(self._declared, text)
            else:
                self._for_documents.setdefault(text, set()).update(documents)

    def mark(
        self, segments: Sequence[Segment], shown: int = 0, *, turns: bool = False
    ) -> tuple[Segment, ...]:
        """The segments with their preamble marked, split where it ends inside one.

        `shown` is the length of a preamble that the request itself shows to be one (a system
        message, the tools after it), for prompts that do not begin with a declared one. `turns`
        of a conversation before the first document are no context: without any such preamble, what
        stands in front of that document in its own message is.
        """
        end = next((i for i, s in enumerate(segments) if s.kind is Kind.MODULE), None)
        head = tuple(segments[:end])
        text = joined(head)
        with self._lock:
            length = _beginning(self._preambles(), text)
            if not length:
                length = min(shown, len(text))
            if not length and end is not None:
                head = without_header(head, segments[end:])
                own = _own(head)
                if turns and content_of(own) >= WORTHWHILE and head[0].kind is Kind.CONTROL:
                    stop = len(joined(head))
                    marked = mark_beginning(segments, len(head[0].text))
                    return _mark_leading(marked, stop - len(joined(own)), stop)
                length = self._length(head, joined(head), segments[end].module or "")
        return mark_beginning(segments, length)

    def _length(self, head: tuple[Segment, ...], text: str, document: str) -> int:
        """How much of a beginning that nobody declared is context; learns from earlier ones."""
        if self._seen.get(head, 0) < 2 and (
            learned := _beginning(_longest_first(self._learned), text)
        ):
            _use(self._learned, text[:learned], LEARNED)
            return learned
        meant = [p for p, documents in self._for_documents.items() if document in documents]
        if cached := [len(preamble) for preamble in meant if text.startswith(preamble)]:
            return max(cached)
        self._seen[head] = self._seen.pop(head, 0) + 1
        while len(self._seen) > REMEMBERED:
            del self._seen[next(iter(self._seen))]
        if not self._learn or self._seen[head] > 1:
            return len(text)
        once = [other for other, times in self._seen.items() if times == 1 and other != head]
        shared = [(common, other) for other in once if (common := _common(head, other))]
        if len(shared) < EVIDENCE - 1:
            return len(text)
        common = min((common for common, _ in shared), key=len)
        for other in (head, *(other for _, other in shared)):
            del self._seen[other]
        _use(self._learned, common, LEARNED)
        log.info(
            "prompts differ before their first document; documents are encoded after the part "
            "that they share from now on: %r",
            common,
        )
        return len(common)

    def _preambles(self) -> list[str]:
        """Every declared preamble, the longest first."""
        return _longest_first({*self._declared, *self._passing})


def _longest_first(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=len, reverse=True)


def _use(texts: dict[str, None], text: str, most: int) -> None:
    """Keep a text as the last used one, and no more than `most`."""
    texts.pop(text, None)
    texts[text] = None
    while len(texts) > most:
        del texts[next(iter(texts))]


def _add(preambles: list[str], preamble: str) -> None:
    """Keep the list free of doubles, the longest first."""
    if preamble not in preambles:
        preambles.append(preamble)
        preambles.sort(key=len, reverse=True)


def _beginning(preambles: Iterable[str], text: str) -> int:
    """The length of the first of the preambles that `text` begins with, or 0."""
    return next((len(preamble) for preamble in preambles if text.startswith(preamble)), 0)


def content_of(segments: Iterable[Segment]) -> int:
    """Characters of content, the template's own text aside."""
    return sum(len(segment.text) for segment in segments if segment.kind is not Kind.CONTROL)


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
    shortest = min(len(a.text), len(b.text))
    same = bisect_left(range(shortest), 1, key=lambda n: a.text[: n + 1] != b.text[: n + 1])
    return a.text[:same].rpartition("\n")[0].rstrip()


def mark_beginning(segments: Sequence[Segment], length: int) -> tuple[Segment, ...]:
    """Mark the first `length` characters as preamble, and nothing else.

    Control text is never cut, so that its control tokens stay whole: a preamble that ends inside
    ends before it.
    """
    marked: list[Segment] = []
    for segment in segments:
        if not segment.text:
            marked.append(segment)
            continue
        inside = max(0, min(length, len(segment.text)))
        if segment.kind is Kind.CONTROL and inside < len(segment.text):
            inside = 0
        length = length - inside if inside == len(segment.text) else 0
        first, rest = segment.text[:inside], segment.text[inside:]
        if first:
            marked.append(replace(segment, text=first, preamble=True))
        if rest:
            marked.append(replace(segment, text=rest, preamble=False))
    return tuple(marked)


def _own(head: Sequence[Segment]) -> tuple[Segment, ...]:
    """What stands before the first document in its own message."""
    own = list(takewhile(lambda segment: segment.kind is not Kind.CONTROL, reversed(head)))
    return tuple(reversed(own))


def _mark_leading(segments: Sequence[Segment], start: int, stop: int) -> tuple[Segment, ...]:
    """Mark characters `start` to `stop` as leading, splitting segments there."""
    marked: list[Segment] = []
    position = 0
    for segment in segments:
        at = [min(max(edge - position, 0), len(segment.text)) for edge in (start, stop)]
        before, inside, after = (
            segment.text[: at[0]], segment.text[at[0] : at[1]], segment.text[at[1] :],
        )  # fmt: skip
        position += len(segment.text)
        if not inside:
            marked.append(segment)
            continue
        marked += [replace(segment, text=before)] if before else []
        marked.append(replace(segment, text=inside, leads=True))
        marked += [replace(segment, text=after)] if after else []
    return tuple(marked)
