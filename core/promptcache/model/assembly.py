"""Assembly: the states that a prompt reuses, put into its arena layer by layer.

The keys of several modules are turned at once, so that few operations do it, however many modules
there are: a CPU's threads have to be woken for each, and a GPU has to be given each. On a CPU that
is as much at a time as fits its caches; on a GPU a whole layer, beside the forward.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from math import prod

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.overlap import Lane
from promptcache.model.turning import Moves, Turns, far
from promptcache.rotate import Rotation, Turn

AT_ONCE = 2 << 20
"""Bytes that one core works on at a time, before and after the turn: they fit its cache."""
NEAR = 64
"""Tokens between two modules up to which they are turned together: that is done in vain, but
takes less than another operation.
"""


def assemble_here(
    arena: Arena, moves: Moves, rotations: Sequence[Rotation | None], earlier: KV | None
) -> None:
    """Put states at these positions, and `earlier` ones where they were, before the forward.

    What stands between modules afterwards may be anything.
    """
    turning = _InBlocks(moves, rotations)
    spans = [(position, kv.tokens, kv.values) for position, kv in moves]
    for index, layer in enumerate(arena.layers):
        places = layer.values[0]
        for position, tokens, values in spans:
            places.narrow(1, position, tokens).copy_(values[index], non_blocking=True)
        turning.put(layer.keys[0], index)
        if earlier is not None:
            arena.write_layer_at(index, earlier)


class _InBlocks:
    """Turns keys on their way to the arena, in blocks of some tokens, in the same memory."""

    def __init__(self, moves: Moves, rotations: Sequence[Rotation | None]) -> None:
        self._moves = moves
        self._still = [(position, kv) for position, kv in moves if position == kv.start]
        self._far = far(moves)
        self._turns = Turns(self._far) if self._far else None
        self._rotations = rotations
        self._tables: dict[tuple[Rotation, int, torch.device], Turn] = {}
        self._blocks: dict[tuple[Rotation, int, int, torch.device], list[_Block]] = {}

    def put(self, keys: Tensor, layer: int) -> None:
        """Put one layer's keys to their places in `keys` `[kv_heads, capacity, key_dim]`."""
        rotation = self._rotations[layer]
        moves = self._moves
        if rotation is not None and self._turns is not None:
            self._turn(keys, layer, rotation, self._turns)
            moves = self._still
        for position, kv in moves:
            place = keys[:, position : position + kv.tokens]
            place.copy_(kv.keys[layer], non_blocking=True)

    def _turn(self, keys: Tensor, layer: int, rotation: Rotation, turns: Turns) -> None:
        """Put the keys that are moved by a distance."""
        made = rotation, keys.shape[-1], keys.device
        if made not in self._tables:
            self._tables[made] = turns.table(rotation, keys.shape[-1], partial(_sent, keys.device))
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


def assemble_beside(
    arena: Arena,
    moves: Moves,
    rotations: Sequence[Rotation | None],
    earlier: KV | None,
    lane: Lane,
) -> None:
    """Ask for what `assemble_here` does, in a lane beside the forward.

    The arena's layers wait for their states when they are used. Whoever calls this keeps the
    states and the arena until they have waited, or until the lane was joined.
    """
    lane.follow()
    turning = _InPlace(moves, rotations, arena.layers[0].keys.device, lane)
    for index, layer in enumerate(arena.layers):
        layer.arrival = lane.run(partial(_fill, arena, index, moves, earlier, turning))


def _fill(
    arena: Arena, index: int, moves: Iterable[tuple[int, KV]], earlier: KV | None, turning: _InPlace
) -> None:
    layer = arena.layers[index]
    for position, kv in moves:
        place = slice(position, position + kv.tokens)
        _copy(layer.keys[0, :, place], kv.keys[index])
        _copy(layer.values[0, :, place], kv.values[index])
    turning.turn(layer.keys[0], index)
    if earlier is not None:
        arena.write_layer_at(index, earlier)


def _copy(place: Tensor, states: Tensor) -> None:
    """Copy `[kv_heads, tokens, dim]`, from pinned memory without waiting for it.

    Between devices that takes contiguous memory; of a part of a module each head's is.
    """
    if states.device != place.device and not states.is_contiguous():
        for head, own in zip(place, states, strict=True):
            head.copy_(own, non_blocking=True)
    else:
        place.copy_(states, non_blocking=True)


class _InPlace:
    """Turns a whole layer's keys where they stand."""

    def __init__(
        self,
        moves: Moves,
        rotations: Sequence[Rotation | None],
        device: torch.device,
        lane: Lane,
    ) -> None:
        """The tables are made in the lane: nothing else uses their memory."""
        self._rotations = rotations
        self._tables: dict[tuple[Rotation, int], Turn] = {}
        moved = far(moves)
        if not moved:
            return
        turns = Turns(moved)
        self._span = slice(turns.first, turns.stop)
        sent = partial(_sent, device)

        def add(rotation: Rotation, dim: int) -> None:
            self._tables[rotation, dim] = turns.table(rotation, dim, sent)

        dims = [keys.shape[-1] for keys in moved[0][1].keys]
        for rotation, dim in dict.fromkeys(zip(rotations, dims, strict=True)):
            if rotation is not None:
                lane.run(partial(add, rotation, dim))

    def turn(self, keys: Tensor, layer: int) -> None:
        """Turn one layer's keys `[kv_heads, capacity, key_dim]` in place.

        Keys that are not moved are multiplied by one; what is written later may be anything.
        """
        rotation = self._rotations[layer]
        made = None if rotation is None else self._tables.get((rotation, keys.shape[-1]))
        if made is None:
            return
        place = keys[:, self._span]
        wide = place.float()
        turned = torch.empty_like(wide)
        made.apply(wide, turned)
        place.copy_(turned)


def _sent(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor of the host's on the device, which does not wait for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
