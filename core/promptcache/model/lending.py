"""What a row of a batch is lent of the modules that its prompt reuses, and what it copies of them.

A module is lent in as many parts as the tokens that the row computes itself leave of it, and each
part is asked by itself. Where these tokens are scattered over a module there would be hundreds, so
the row holds what it reuses of that module as its own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from promptcache.kv import KV
from promptcache.layout import ModuleRun, Piece
from promptcache.model.lent import Loan
from promptcache.model.shared import Row, SharedArena
from promptcache.model.slots import POSITION
from promptcache.rotate import Mover, Rotation

PARTS = 4
"""Parts in which the tokens of one piece are lent at most."""


class Lending:
    """The states of the modules that one prompt reuses, divided into loans and copies."""

    def __init__(
        self, reused: Iterable[Piece], states: Mapping[ModuleRun, KV], missing: Sequence[int]
    ) -> None:
        """Of the `reused` pieces; `missing` are the sorted positions that the row computes."""
        self._states = states
        self._missing = missing
        self._lent: list[tuple[Piece, int, int]] = []
        self._copied: list[tuple[Piece, list[int]]] = []
        for piece in sorted(reused, key=lambda piece: piece.start):
            parts = list(self._parts(piece))
            if len(parts) > PARTS:
                self._copied.append((piece, [n for part in parts for n in range(*part)]))
                continue
            for start, stop in parts:
                if self._lent and _goes_on(self._lent[-1], piece, start):
                    self._lent[-1] = (*self._lent[-1][:2], stop)
                else:
                    self._lent.append((piece, start, stop))

    def row(self, length: int, room: int) -> Row:
        """The row of a prompt of `length` tokens, with room for an answer."""
        copied = [position for _, positions in self._copied for position in positions]
        own = sorted([*self._missing, *copied]) if copied else self._missing
        return Row(own, tuple(self._loans()), length, room)

    def write_copies(
        self, arena: SharedArena, row: int, rotations: Sequence[Rotation | None]
    ) -> None:
        """Put what the row holds a copy of to its places, turned as `rotations` say."""
        distances = [piece.start - self._start(piece) for piece, _ in self._copied]
        mover = Mover(rotations, distances)
        for (piece, positions), distance in zip(self._copied, distances, strict=True):
            assert piece.run is not None
            rows = torch.tensor(positions) - piece.start + piece.offset
            kv = self._states[piece.run].pick(rows)
            keys = tuple(map(torch.empty_like, kv.keys))
            for layer, (place, stored) in enumerate(zip(keys, kv.keys, strict=True)):
                mover.move(place, stored, layer, distance)
            side = {POSITION: torch.tensor(positions)}
            arena.write_at(row, KV(keys, kv.values, positions[0], side))

    def _parts(self, piece: Piece) -> Iterator[tuple[int, int]]:
        """From where to where a piece's tokens are reused, one stretch after the other."""
        start, at = piece.start, bisect_left(self._missing, piece.start)
        while start < piece.stop:
            stop = min(self._missing[at], piece.stop)  # the last token is always missing
            if start < stop:
                yield start, stop
            start, at = stop + 1, at + 1

    def _start(self, piece: Piece) -> int:
        """The position at which a piece's first token was encoded."""
        assert piece.run is not None
        return self._states[piece.run].start + piece.offset

    def _loans(self) -> Iterator[Loan]:
        for piece, start, stop in self._lent:
            assert piece.run is not None
            offset = piece.offset + start - piece.start
            name = piece.run, offset, stop - start
            yield Loan(name, self._states[piece.run].slice(offset, offset + stop - start), start)


def _goes_on(before: tuple[Piece, int, int], piece: Piece, start: int) -> bool:
    """Whether the states of a piece, from `start` on, follow those that were lent before."""
    other, _, stop = before
    follows = other.run is piece.run and stop == start
    return follows and other.start - other.offset == piece.start - piece.offset
