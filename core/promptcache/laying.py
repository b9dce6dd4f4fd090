"""From a prompt's segments to its layout: runs, contexts and pieces.

What stands before the first module is what modules are encoded after; a scaffold's are one run.
Knows tokens, not models.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum, auto
from itertools import chain

from promptcache.errors import PromptError
from promptcache.layout import Context, ContextKind, Layout, ModuleRun, Piece
from promptcache.segments import Bond, Kind, Segment

TOO_LONG = "with its parameters' places, this module is too long for the model to be encoded"
ANONYMOUS_MINIMUM = 32
"""Tokens from which anonymous text of a schema is worth encoding as a module."""


class _Beginning(Enum):
    """Whose the preamble's tokens are; no module can be called so."""

    PREAMBLE = auto()


_PREAMBLE = _Beginning.PREAMBLE
_Owner = Bond | str | _Beginning | None


def lay_out(
    segments: Sequence[Segment],
    ids: Sequence[Sequence[int]],
    *,
    placeholder: int,
    bare: Sequence[int] | None = None,
    longest: int | None = None,
) -> Layout:
    """Place the segments' tokens.

    `ids` holds each segment's tokens, `placeholder` is the token that keeps a parameter's place
    while its module is encoded. The leading segments that are marked as preamble become one run
    and, with those that lead the first document's message, every module's context; `bare`, when
    given, is the context instead. A module with parameters that has more than `longest` tokens,
    its context's included, is not encoded: their places may make it longer than the prompt.

    Raises PromptError when an argument has more tokens than its parameter.
    """
    for segment, row in zip(segments, ids, strict=True):
        _check_length(segment, row)
    end = _preamble_end(segments)
    preamble = tuple(token for row in ids[:end] for token in row)
    leading = [row for segment, row in zip(segments, ids, strict=True) if segment.leads]
    context = (
        Context(ContextKind.PREAMBLE, (*preamble, *chain.from_iterable(leading)))
        if bare is None
        else Context(ContextKind.BARE, tuple(bare))
    )
    room = None if longest is None else longest - len(context.ids)
    owners = _owners(segments, ids, end, room)
    runs = _runs(segments, ids, owners, context, placeholder)
    held = {owner for segment, owner in zip(segments, owners, strict=True) if segment.hole}
    too_long = {o for o in held & runs.keys() if room is not None and len(runs[o].ids) > room}
    runs = {owner: run for owner, run in runs.items() if owner not in too_long}
    if preamble:
        runs[_PREAMBLE] = ModuleRun(preamble, Context(ContextKind.START), "preamble")
    offsets: dict[_Owner, int] = dict.fromkeys(runs, 0)
    pieces: list[Piece] = []
    prompt: list[int] = []
    for segment, row, owner in zip(segments, ids, owners, strict=True):
        run = runs.get(owner)
        note = segment.note or (TOO_LONG if owner in too_long else None)
        piece = Piece(segment.text, segment.kind, tuple(row), len(prompt), note=note)
        if run is not None:
            if segment.kind is not Kind.ARGUMENT:
                own = segment.module if isinstance(owner, Bond) else None
                name = own or run.name
                piece = replace(piece, run=run, offset=offsets[owner], module=name)
            offsets[owner] += _run_length(segment, row)
        if piece.ids or piece.text or piece.note:
            pieces.append(piece)
            prompt.extend(row)
    whole = tuple(prompt)
    return Layout(tuple(_with_exactness(pieces, whole)), whole)


def _check_length(segment: Segment, row: Sequence[int]) -> None:
    if segment.hole is None or len(row) <= segment.hole.length:
        return
    module = f" of {segment.module!r}" if segment.module else ""
    place = f" ({segment.place})" if segment.place else ""
    raise PromptError(
        f"the argument {segment.hole.name!r}{module}{place} has {len(row)} tokens, its parameter "
        f"holds {segment.hole.length}: {segment.text!r}"
    )


def _preamble_end(segments: Sequence[Segment]) -> int:
    for index, segment in enumerate(segments):
        if not segment.preamble:
            return index
    return len(segments)


def _owners(
    segments: Sequence[Segment], ids: Sequence[Sequence[int]], end: int, room: int | None
) -> list[_Owner]:
    """Whose run each segment belongs to: the preamble's, a scaffold's, a module's, or nobody's.

    A scaffold counts with all of its modules, and if they have `room` together: where a chat
    template changed the text of one, the others are served by their own encodings.
    """
    there: dict[Bond, set[str | None]] = {}
    tokens: Counter[Bond] = Counter()
    for segment, row in zip(segments[end:], ids[end:], strict=True):
        if segment.bond:
            there.setdefault(segment.bond, set()).add(segment.module)
            tokens[segment.bond] += _run_length(segment, row)
    whole = {
        bond
        for bond, modules in there.items()
        if modules.issuperset(bond.modules) and (room is None or tokens[bond] <= room)
    }
    return [
        _PREAMBLE if index < end else segment.bond if segment.bond in whole else segment.module
        for index, segment in enumerate(segments)
    ]


def _runs(
    segments: Sequence[Segment],
    ids: Sequence[Sequence[int]],
    owners: Sequence[_Owner],
    context: Context,
    placeholder: int,
) -> dict[_Owner, ModuleRun]:
    tokens: dict[_Owner, list[int]] = {}
    anonymous: set[_Owner] = set()
    for segment, row, owner in zip(segments, ids, owners, strict=True):
        if owner is None or owner is _PREAMBLE:
            continue
        if segment.anonymous:
            anonymous.add(owner)
        run = tokens.setdefault(owner, [])
        if segment.hole is None:
            run.extend(row)
            continue
        run.extend([placeholder] * segment.hole.length)
    together = Context(ContextKind.SCAFFOLD, context.ids)
    return {
        owner: ModuleRun(tuple(run), together, owner.name)
        if isinstance(owner, Bond)
        else ModuleRun(tuple(run), context, str(owner))
        for owner, run in tokens.items()
        if run and not (owner in anonymous and len(run) < ANONYMOUS_MINIMUM)
    }


def _run_length(segment: Segment, row: Sequence[int]) -> int:
    return len(row) if segment.hole is None else segment.hole.length


def _with_exactness(pieces: Iterable[Piece], prompt: tuple[int, ...]) -> list[Piece]:
    return [
        replace(
            piece,
            exact=piece.run is not None
            and prompt[: piece.start] == piece.run.context.ids + piece.run.ids[: piece.offset],
        )
        for piece in pieces
    ]
