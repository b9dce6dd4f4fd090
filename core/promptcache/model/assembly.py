"""Assembly: the states that a prompt reuses, put into its arena layer by layer.

On a CPU that is done before the forward, in one pass over memory where native code can, otherwise
in blocks that fit its caches; on a GPU beside the forward, a whole layer turned at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.blocks import InBlocks
from promptcache.model.onepass import put_in_one_pass
from promptcache.model.overlap import Lane
from promptcache.model.turning import Moves, Turns, far
from promptcache.rotate import Rotation, Turn


def assemble_here(
    arena: Arena, moves: Moves, rotations: Sequence[Rotation | None], earlier: KV | None
) -> None:
    """Put states at these positions, and `earlier` ones where they were, before the forward.

    What stands between modules afterwards may be anything.
    """
    in_blocks = None if put_in_one_pass(arena, moves, rotations) else InBlocks(moves, rotations)
    for index, layer in enumerate(arena.layers):
        if in_blocks is not None:
            in_blocks.put(layer.keys[0], layer.values[0], index)
        if earlier is not None:
            arena.write_layer_at(index, earlier)


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
