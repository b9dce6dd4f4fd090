"""Assembly in blocks: operators of torch turn the keys of several modules at once.

Few operations do it, however many modules there are, each over as much as fits a core's caches: a
CPU's threads have to be woken for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.turning import Moves, Turns, far
from promptcache.rotate import Rotation, Turn

AT_ONCE = 2 << 20
"""Bytes that one core works on at a time, before and after the turn: they fit its cache."""
NEAR = 64
"""Tokens between two modules up to which they are turned together: that is done in vain, but
takes less than another operation.
"""


class InBlocks:
    """Puts states into an arena, and turns keys on the way, some tokens at a time in the same
    memory.
    """

    def __init__(self, moves: Moves, rotations: Sequence[Rotation | None]) -> None:
        self._moves = moves
        self._still = [(position, kv) for position, kv in moves if position == kv.start]
        self._far = far(moves)
        self._turns: Turns | None = None
        self._rotations = rotations
        self._tables: dict[tuple[Rotation, int, torch.device], Turn] = {}
        self._blocks: dict[tuple[Rotation, int, int, torch.device], list[_Block]] = {}

    def put(self, keys: Tensor, values: Tensor, layer: int) -> None:
        """Put one layer's states to their places in `[kv_heads, capacity, dim]` each."""
        for position, kv in self._moves:
            values.narrow(1, position, kv.tokens).copy_(kv.values[layer], non_blocking=True)
        rotation = self._rotations[layer]
        still = self._moves
        if rotation is not None and self._far:
            self._turn(keys, layer, rotation)
            still = self._still
        for position, kv in still:
            keys.narrow(1, position, kv.tokens).copy_(kv.keys[layer], non_blocking=True)

    def _turn(self, keys: Tensor, layer: int, rotation: Rotation) -> None:
        """Put the keys that are moved by a distance."""
        turns = self._turns = self._turns or Turns(self._far)
        made = rotation, keys.shape[-1], keys.device
        if made not in self._tables:
            sent = partial(Tensor.to, device=keys.device)
            self._tables[made] = turns.table(rotation, keys.shape[-1], sent)
        table = self._tables[made]
        if keys.dtype == torch.float32 and all(
            kv.keys[layer].dtype == keys.dtype and kv.keys[layer].device == keys.device
            for _, kv in self._far
        ):
            for position, kv in self._far:
                stop = position + kv.tokens
                turn = table.of(position - turns.first, stop - turns.first)
                turn.apply(kv.keys[layer], keys[:, position:stop])
            return
        shape = rotation, keys.shape[0], keys.shape[-1], keys.device
        if shape not in self._blocks:
            self._blocks[shape] = list(_blocks(self._far, table, turns.first, keys))
        for block in self._blocks[shape]:
            block.put(keys, layer)


class _Block:
    """Keys that will stand close together, in float32, before and after they are turned."""

    def __init__(self, moves: Moves, table: Turn, memory: Tensor) -> None:
        """`table` has a turn for each token from the first of these moves to the last;
        `memory` `[2, kv_heads, tokens, key_dim]` may be others', too.
        """
        self._start = moves[0][0]
        self._stop = self._start + memory.shape[2]
        wide, self._turned = memory.unbind()
        self._turn = table.between(wide, self._turned)
        starts = [position - self._start for position, _ in moves]
        self._parts = [
            (wide[:, start : start + kv.tokens], kv.keys)
            for start, (_, kv) in zip(starts, moves, strict=True)
        ]

    def put(self, keys: Tensor, layer: int) -> None:
        """Turn one layer's, and put them to their places."""
        for place, states in self._parts:
            place.copy_(states[layer], non_blocking=True)
        self._turn()
        keys[:, self._start : self._stop].copy_(self._turned)


def _blocks(moves: Moves, table: Turn, first: int, keys: Tensor) -> Iterator[_Block]:
    """Sorted moves in blocks, for layers of the shape of `keys`; `table` is from `first` on."""
    token_bytes = 2 * keys[:, 0].numel() * torch.float32.itemsize
    tokens = max(1, AT_ONCE * torch.get_num_threads() // token_bytes)
    groups = list(_groups(moves, tokens))
    spans = [(group[0][0], group[-1][0] + group[-1][1].tokens) for group in groups]
    longest = max(stop - start for start, stop in spans)
    memory = torch.empty(2 * keys[:, 0].numel() * longest, device=keys.device)
    for group, (start, stop) in zip(groups, spans, strict=True):
        shape = (2, keys.shape[0], stop - start, keys.shape[-1])
        turn = table.of(start - first, stop - first)
        yield _Block(group, turn, memory[: prod(shape)].view(shape))


def _groups(moves: Moves, tokens: int) -> Iterator[list[tuple[int, KV]]]:
    """Sorted moves, in groups of at least so many tokens and less than twice as many, or fewer
    where the next one is not near; longer ones in parts.
    """
    group: list[tuple[int, KV]] = []
    stop = 0
    for position, kv in _parts(moves, tokens):
        if group and (stop - group[0][0] >= tokens or position - stop > NEAR):
            yield group
            group = []
        group.append((position, kv))
        stop = position + kv.tokens
    yield group


def _parts(moves: Moves, tokens: int) -> Iterator[tuple[int, KV]]:
    for position, kv in moves:
        if kv.tokens <= tokens:
            yield position, kv
            continue
        for start in range(0, kv.tokens, tokens):
            yield position + start, kv.slice(start, min(kv.tokens, start + tokens))
