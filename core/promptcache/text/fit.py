"""Where contents went in a template's own rendering.

A skeleton says what a chat template writes around its contents. `fit` walks along the true
rendering with it and decides, slot by slot, what became of each content: unchanged, trimmed, cut,
rewritten. Nothing but what the skeleton shows as the template's own text is ever CONTROL, so
wherever the walk loses its way the rest is TEXT, which cannot become control tokens.

This file does not know jinja, and never renders: it asks for a single message's rewriting.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from promptcache.segments import Kind, Segment, joined

TRIMMED = "the chat template trims this module's edge"
CUT = "the chat template drops part of this module"
REWRITTEN = "the chat template rewrites this message's text"
ESCAPED = "the chat template writes this module's text as JSON, which changes it"
LOST = "the chat template rewrites messages from here on, so their parts cannot be told apart"
REPEATED = "the chat template repeats this message; a module is reused once per prompt"


@dataclass(frozen=True, slots=True)
class Skeleton:
    """A template's rendering, cut at its slots: `controls[i]` stands before `slots[i]`.

    A slot is the index of a message, or, counted on from the last message, of one of `marks`:
    control tokens spelled in a tool's description.
    """

    controls: tuple[str, ...]
    slots: tuple[int, ...]
    marks: tuple[str, ...] = ()

    def difference(self, alone: Skeleton, at: int) -> str | None:
        """The text that fills slot `at` in `alone`, the same skeleton with that slot filled."""
        if alone.slots != self.slots[:at] + self.slots[at + 1 :]:
            return None
        before, after = self.controls[at : at + 2]
        filled = alone.controls[at]
        others = self.controls[:at] + self.controls[at + 2 :]
        if alone.controls[:at] + alone.controls[at + 1 :] != others:
            return None
        long_enough = len(filled) >= len(before) + len(after)
        if not (long_enough and filled.startswith(before) and filled.endswith(after)):
            return None
        return filled[len(before) : len(filled) - len(after)]


def fit(
    rendering: str,
    skeleton: Skeleton | None,
    contents: Sequence[Sequence[Segment]],
    rewriting: Callable[[int], str | None],
) -> tuple[Segment, ...]:
    """The segments of `rendering`; their joined text is `rendering`.

    `rewriting(i)` is what the template makes of content i alone, or None if that cannot be said.
    """
    placed = _Placed()
    if skeleton is None or not rendering.startswith(skeleton.controls[0]):
        placed.lose(rendering, contents)
        return placed.finished()
    filled = [*contents, *((Segment(mark, preamble=True),) for mark in skeleton.marks)]
    position = placed.control(skeleton.controls[0])
    for at, slot in enumerate(skeleton.slots):
        after = skeleton.controls[at + 1]
        last = at + 1 == len(skeleton.slots)
        found = _text_at(rendering, position, joined(filled[slot]), after, last=last)
        if found is None and slot < len(contents):
            said = rewriting(slot)
            if said is not None and _fits(rendering, position, said, after, last=last):
                found = said
        if found is None:
            tail = skeleton.controls[-1]
            stop = len(rendering) - len(tail)
            if stop < position or not rendering.endswith(tail):
                tail, stop = "", len(rendering)
            left = [contents[s] for s in skeleton.slots[at:] if s < len(contents)]
            placed.lose(rendering[position:stop], left)
            placed.control(tail)
            return placed.finished()
        placed.content(slot, filled[slot], found)
        position += len(found) + placed.control(after)
    if position != len(rendering):  # a template without any slot, whose text depends on contents
        placed.lose(rendering[position:], contents)
    return placed.finished()


def _text_at(rendering: str, start: int, text: str, after: str, *, last: bool) -> str | None:
    """`text` as it stands at `start` with `after` behind it: whole, or trimmed."""
    for form in (text, text.strip(), text.rstrip(), text.lstrip()):
        if _fits(rendering, start, form, after, last=last):
            return form
    return None


def _fits(rendering: str, start: int, text: str, after: str, *, last: bool) -> bool:
    stop = start + len(text)
    if last and stop + len(after) != len(rendering):
        return False
    return rendering.startswith(text, start) and rendering.startswith(after, stop)


class _Placed:
    """The segments placed so far, and the modules that the template broke, with the reason."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []
        self._broken: dict[str, str] = {}
        self._seen: set[int] = set()

    def control(self, text: str) -> int:
        """Add the template's own text; its length."""
        if text and self._segments and self._segments[-1].kind is Kind.CONTROL:
            text_before = self._segments.pop().text
            self._segments.append(Segment(text_before + text, Kind.CONTROL))
        elif text:
            self._segments.append(Segment(text, Kind.CONTROL))
        return len(text)

    def content(self, slot: int, segments: Sequence[Segment], text: str) -> None:
        """Add a message's segments, as far as `text` still is their text."""
        if slot in self._seen:
            self._add_text(text, segments, REPEATED)
            return
        self._seen.add(slot)
        start = _start_of(text, joined(segments))
        if start is None and (pieces := _escaped(segments, text)):
            self._break((s for s, p in zip(segments, pieces, strict=True) if s.text != p), ESCAPED)
            self._segments += [replace(s, text=p) for s, p in zip(segments, pieces, strict=True)]
            return
        if start is None:
            self._break(segments, REWRITTEN)
            self._add_text(text, segments, REWRITTEN)
            self._segments += _closed(segments)
            return
        self._segments += self._cut(segments, start, start + len(text))

    def lose(self, text: str, contents: Sequence[Sequence[Segment]]) -> None:
        """Add text in which the contents cannot be told from the template's own words."""
        for segments in contents:
            self._break(segments, LOST)
        if text:
            self._segments.append(Segment(text, note=LOST))
        for segments in contents:
            self._segments += _closed(segments)

    def finished(self) -> tuple[Segment, ...]:
        whole = map(self._unbroken, self._segments)
        return tuple(_with_control_placed([s for s in whole if s.text or s.hole]))

    def _add_text(self, text: str, segments: Sequence[Segment], note: str) -> None:
        preamble = bool(segments) and all(segment.preamble for segment in segments)
        self._segments.append(Segment(text, preamble=preamble, note=note))

    def _break(self, segments: Iterable[Segment], note: str) -> None:
        for segment in segments:
            if segment.module is not None:
                self._broken.setdefault(segment.module, note)

    def _cut(self, segments: Sequence[Segment], start: int, stop: int) -> list[Segment]:
        kept = []
        position = 0
        for segment in segments:
            end = position + len(segment.text)
            text = segment.text[max(start - position, 0) : max(stop - position, 0)]
            if text != segment.text:
                only_space = segment.text.strip() == text.strip()
                self._break([segment], TRIMMED if only_space else CUT)
            kept.append(replace(segment, text=text))
            position = end
        return kept

    def _unbroken(self, segment: Segment) -> Segment:
        note = self._broken.get(segment.module or "")
        if note is None:
            return segment
        if segment.hole is not None:  # still an argument, of a module that is computed now
            return replace(segment, module=None, bond=None)
        return Segment(segment.text, preamble=segment.preamble, note=note, place=segment.place)


def _closed(segments: Iterable[Segment]) -> list[Segment]:
    """The holes without an argument, whose notes are due whatever the template does."""
    return [segment for segment in segments if segment.hole and not segment.text]


def _start_of(text: str, content: str) -> int | None:
    """Where `text` begins in `content`, if only ends of `content` were taken away."""
    if content.endswith(text):
        return len(content) - len(text)
    if content.startswith(text):
        return 0
    if content.strip() == text:
        return len(content) - len(content.lstrip())
    return None


def _escaped(segments: Sequence[Segment], text: str) -> list[str] | None:
    """The segments' texts as JSON, if that is what `text` is of all of them: templates write
    results of tools so, and what JSON leaves as it is can still be reused.
    """
    for plain in (True, False):
        pieces = [json.dumps(segment.text, ensure_ascii=plain)[1:-1] for segment in segments]
        if "".join(pieces) == text:
            return pieces
    return None


def _with_control_placed(segments: Sequence[Segment]) -> list[Segment]:
    """CONTROL inside a module's run, or a scaffold's, belongs to it; before any other content, to
    the preamble.
    """
    contents = [segment for segment in segments if segment.kind is not Kind.CONTROL]
    placed: list[Segment] = []
    seen = 0
    opening = True
    for segment in segments:
        if segment.kind is not Kind.CONTROL:
            seen += 1
            opening = opening and segment.preamble
            placed.append(segment)
            continue
        before = contents[seen - 1] if seen else None
        after = contents[seen] if seen < len(contents) else None
        module = bond = None
        if before and after:
            module = before.module if before.module == after.module else None
            bond = before.bond if before.bond == after.bond else None
        placed.append(replace(segment, module=module, bond=bond, preamble=opening))
    return placed
