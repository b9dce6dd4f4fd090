"""Assembly: the states that a prompt reuses, put into its arena layer by layer, beside the forward.

Made for a device that is given its work piece by piece: each layer's states are copied to their
places as they are, and then turned all at once, so that few kernels do it, however many modules
there are. On a CPU each module is moved by itself (`Arena.write`), which reads and writes less.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.overlap import Lane
from promptcache.rotate import Rotation


def assemble_beside(
    arena: Arena,
    moves: Sequence[tuple[int, KV]],
    rotations: Sequence[Rotation | None],
    earlier: KV | None,
    lane: Lane,
) -> None:
    """Ask for states to be put at these positions, and for `earlier` ones where they were.

    The arena's layers wait for theirs when they are used. Whoever calls this keeps the states and
    the arena until they have waited, or until the lane was joined.
    """
    lane.follow()
    turning = _Turning(moves, rotations, arena.layers[0].keys.device, lane)
    for index, layer in enumerate(arena.layers):
        layer.arrival = lane.run(partial(_fill, arena, index, moves, earlier, turning))


def _fill(
    arena: Arena, index: int, moves: Iterable[tuple[int, KV]], earlier: KV | None, turning: _Turning
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


class _Turning:
    """The turns of a prompt's tokens, each by the distance that it is moved; 0 for the others."""

    def __init__(
        self,
        moves: Sequence[tuple[int, KV]],
        rotations: Sequence[Rotation | None],
        device: torch.device,
        lane: Lane,
    ) -> None:
        self._rotations = rotations
        self._tables: dict[tuple[Rotation, int], tuple[Tensor, Tensor]] = {}
        far = [(position, kv) for position, kv in moves if position != kv.start]
        if not far:
            return
        self._first = min(position for position, _ in far)
        self._stop = max(position + kv.tokens for position, kv in far)
        distances = [0, *dict.fromkeys(position - kv.start for position, kv in far)]
        which = torch.zeros(self._stop - self._first, dtype=torch.long)
        for position, kv in far:
            start = position - self._first
            which[start : start + kv.tokens] = distances.index(position - kv.start)
        dims = [kv.shape[-1] for kv in far[0][1].keys]
        for rotation, dim in dict.fromkeys(zip(rotations, dims, strict=True)):
            if rotation is not None:
                self._add(rotation, dim, distances, which, device, lane)

    def _add(
        self,
        rotation: Rotation,
        dim: int,
        distances: Sequence[int],
        which: Tensor,
        device: torch.device,
        lane: Lane,
    ) -> None:
        """Make the cosines `[tokens, dim]` and sines `[tokens, pairs]` of a layer with such keys.

        They are made in the lane: nothing else uses their memory.
        """
        turns = rotation.turns(distances, dim, torch.device("cpu"))
        cosines = torch.stack([turn.cos for turn in turns])
        sines = torch.stack([turn.sin for turn in turns])

        def send() -> None:
            chosen = _sent(which, device)
            tables = (_sent(table, device).index_select(0, chosen) for table in (cosines, sines))
            cos, sin = tables
            self._tables[rotation, dim] = cos, sin

        lane.run(send)

    def turn(self, keys: Tensor, layer: int) -> None:
        """Turn one layer's keys `[kv_heads, capacity, key_dim]` in place.

        Keys that are not moved are multiplied by one; what is written later may be anything.
        """
        rotation = self._rotations[layer]
        made = None if rotation is None else self._tables.get((rotation, keys.shape[-1]))
        if rotation is None or made is None:
            return
        cos, sin = made
        place = keys[:, self._first : self._stop]
        wide = place.float()
        turned = wide * cos
        (a, b), (a_out, b_out) = rotation.pairs(wide), rotation.pairs(turned)
        a_out.addcmul_(b, sin, value=-1)
        b_out.addcmul_(a, sin)
        place.copy_(turned)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host's on the device, which does not wait for it."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
