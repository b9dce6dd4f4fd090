"""Assembly in one pass: native code reads states, turns keys and writes them, all in one call.

That takes as long as copying them. Where states of modules lie is found out once, not with every
prompt.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from promptcache import native
from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.turning import Moves
from promptcache.rotate import Rotation

STREAMED = 32 << 20
"""Bytes of states from which on they are copied past the caches, which could not hold them."""


_Kinds = tuple[tuple[torch.dtype, int, int], ...]


class _Located(NamedTuple):
    """Where the states of a module lie: keys and values of each layer in turn, `[2 * layers, 2]`,
    and of what types, heads and dimensions they are.
    """

    states: native.Numbers
    kinds: _Kinds


_LOCATED: WeakKeyDictionary[KV, _Located | None] = WeakKeyDictionary()


def put_in_one_pass(arena: Arena, moves: Moves, rotations: Sequence[Rotation | None]) -> bool:
    """Put states at these positions of an arena, each layer's keys turned by its rotation.

    False, and nothing is done, where native code cannot.
    """
    if not moves or not native.usable():
        return False
    found = [located for _, kv in moves if (located := _located(kv)) is not None]
    tensors = [tensor[0] for own in arena.layers for tensor in (own.keys, own.values)]
    kinds = _kinds(tensors)
    if len(found) < len(moves) or any(located.kinds != kinds for located in found):
        return False
    distances = [position - kv.start for position, kv in moves]
    turns = {distance: turn for turn, distance in enumerate(dict.fromkeys(filter(None, distances)))}
    pieces = native.Pieces(
        np.array([position for position, _ in moves]),
        np.array([kv.tokens for _, kv in moves]),
        np.array([turns.get(distance, -1) for distance in distances]),
    )
    angles: dict[Rotation | None, native.Angles] = {
        rotation: _angles(rotation, list(turns))
        for rotation in set(rotations)
        if rotation is not None and turns
    }
    turned = [turned for rotation in rotations for turned in (angles.get(rotation), None)]
    places = list(map(native.Place, tensors, turned))
    streamed = arena.nbytes * int(pieces.tokens.sum()) >= STREAMED * arena.capacity
    states = np.stack([located.states for located in found], axis=1)
    return native.put(places, states, pieces, streamed)


def _angles(rotation: Rotation, distances: Sequence[int]) -> native.Angles:
    angles = rotation.angles(distances)
    return native.Angles(rotation, angles.cos().float(), angles.sin().float())


def _located(kv: KV) -> _Located | None:
    """Where the states of a module lie, None where native code cannot read them."""
    if kv not in _LOCATED:
        tensors = [tensor for layer in kv.layers() for tensor in layer]
        states = native.located(tensors)
        _LOCATED[kv] = None if states is None else _Located(states, _kinds(tensors))
    return _LOCATED[kv]


def _kinds(tensors: Sequence[Tensor]) -> _Kinds:
    return tuple((tensor.dtype, tensor.shape[0], tensor.shape[2]) for tensor in tensors)
