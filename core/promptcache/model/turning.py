"""Turns of a prompt's tokens: each by the distance that its module is moved, in one table.

With it the keys of many modules are turned at once. Knows positions, not in what the keys stand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.rotate import Rotation, Turn

Moves = Sequence[tuple[int, KV]]
"""Attention states, each with the position that its first token is moved to."""


class Turns:
    """The turn of each token from `first` to `stop`, which moves put there; of others it is 0."""

    def __init__(self, moves: Moves) -> None:
        """There must be moves."""
        self.first = min(position for position, _ in moves)
        self.stop = max(position + kv.tokens for position, kv in moves)
        distances = [position - kv.start for position, kv in moves]
        self._distances = list(dict.fromkeys([0, *distances]))
        numbers = {distance: number for number, distance in enumerate(self._distances)}
        self._which = torch.zeros(self.stop - self.first, dtype=torch.long)
        for (position, kv), distance in zip(moves, distances, strict=True):
            start = position - self.first
            self._which[start : start + kv.tokens] = numbers[distance]

    def table(self, rotation: Rotation, key_dim: int, sent: Callable[[Tensor], Tensor]) -> Turn:
        """Cosines `[tokens, key_dim]` and sines `[tokens, pairs]`; `sent` puts tensors where the
        keys are.
        """
        turns = rotation.turns(self._distances, key_dim, torch.device("cpu"))
        which = sent(self._which)
        cosines = sent(torch.stack([turn.cos for turn in turns]))
        sines = sent(torch.stack([turn.sin for turn in turns]))
        return Turn(rotation, cosines.index_select(0, which), sines.index_select(0, which))


def far(moves: Moves) -> list[tuple[int, KV]]:
    """The moves by a distance, in the order of the prompt."""
    return sorted(
        ((position, kv) for position, kv in moves if position != kv.start),
        key=lambda move: move[0],
    )
