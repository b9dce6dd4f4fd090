"""Native code that puts states to their places in one pass: loaded where it was compiled.

`moves.c` is compiled when the package is installed, if there is a C compiler. Everything that
calls it can do without; `usable` says whether it is there and this processor is fit for it.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from promptcache.rotate import Rotation

SOURCE = Path(__file__).with_name("moves.c")
COMPILED = Path(__file__).with_name("moves.so")
STILL = 0
KINDS = {torch.bfloat16: 1, torch.float32: 2}
"""What it can turn; states of any other type it can put as they are."""
GRAIN = 128 << 10
"""Bytes that are worth another thread."""
Numbers = NDArray[np.int64]


class Angles(NamedTuple):
    """Cosines and sines of some distances, `[distances, pairs]` each, float32, dense."""

    rotation: Rotation
    cos: Tensor
    sin: Tensor


class Pieces(NamedTuple):
    """What is put into each place, a line for each piece.

    `positions` are those of the first tokens, `tokens` how many there are, `turns` the numbers of
    the angles that they are turned by, -1 where they stay as they are.
    """

    positions: Numbers
    tokens: Numbers
    turns: Numbers


class Place(NamedTuple):
    """One layer's keys or values, `[heads, capacity, dim]`, and what turns what is put there."""

    tensor: Tensor
    angles: Angles | None


def usable() -> bool:
    """Whether native code does the work here."""
    return _loaded() is not None


def located(states: Sequence[Tensor]) -> Numbers | None:
    """Where tensors `[heads, tokens, dim]` lie: address, and bytes between heads, `[tensors, 2]`.

    None where one of them is not in main memory, or has gaps between its tokens or numbers. The
    addresses are good for as long as the tensors live and their storage stays where it is.
    """
    found = []
    for tensor in states:
        stride = tensor.stride()
        if not tensor.is_cpu or stride[1:] != (tensor.shape[2], 1):
            return None
        found.append((tensor.data_ptr(), stride[0] * tensor.element_size()))
    return np.array(found, dtype=np.int64)


def put(places: Sequence[Place], located: Numbers, pieces: Pieces, streamed: bool) -> bool:
    """Put states into places of their type, heads and dimensions, all in one call.

    `located` is `[places, pieces, 2]`. `streamed` copies past the caches. Gives False, and does
    nothing, where a place is such that only torch can. Raises ValueError for pieces that would lie
    beyond a place.
    """
    native = _loaded()
    if native is None or not all(map(_takes, places)):
        return False
    first, last = pieces.positions.min(initial=0), (pieces.positions + pieces.tokens).max(initial=0)
    room = min(place.tensor.shape[1] for place in places)
    if first < 0 or last > room:
        raise ValueError(f"states for places {first} to {last} of {room}")
    rows = np.array([_rows(place, streamed) for place in places], dtype=np.int64)
    table = np.zeros((len(places), len(pieces.tokens), 7), dtype=np.int64)
    sources, into = table[..., 0:3:2], table[..., 1:4:2]
    sources[:] = located
    into[:] = [[(own.data_ptr(), own.stride(0) * own.element_size())] for own, _ in places]
    into[..., 0] += pieces.positions * rows[:, 2:3]
    table[..., 4] = pieces.tokens
    for place, own in zip(places, table, strict=True):
        if place.angles is not None:
            own[:, 5:] = _turning(place.angles, pieces.turns)
    work = int((rows[:, 0] * rows[:, 2]).sum() * pieces.tokens.sum())
    threads = min(torch.get_num_threads(), 1 + work // GRAIN)
    longest = int(pieces.tokens.max(initial=0))
    native.promptcache_put(rows.ctypes.data, table.ctypes.data, *table.shape[:2], longest, threads)
    return True


def _takes(place: Place) -> bool:
    """Whether native code can write there."""
    tensor, angles = place
    dense = tensor.stride()[1:] == (tensor.shape[2], 1)
    if angles is None:
        return tensor.is_cpu and dense
    fits = 2 * len(angles.rotation.frequencies) <= tensor.shape[2]
    return tensor.is_cpu and dense and fits and tensor.dtype in KINDS


def _rows(place: Place, streamed: bool) -> tuple[int, ...]:
    """What C calls the rows of a place."""
    (heads, _, dim), size = place.tensor.shape, place.tensor.element_size()
    turned = (0, 0, 0, STILL)
    if place.angles is not None:
        rotation = place.angles.rotation
        pairs = len(rotation.frequencies)
        turned = rotation.first(dim), pairs, rotation.interleaved, KINDS[place.tensor.dtype]
    return heads, dim, dim * size, *turned, streamed


def _turning(angles: Angles, turns: Numbers) -> Numbers:
    """Where the cosines and the sines of each piece lie, `[pieces, 2]`, 0 for those that stay."""
    offsets = turns * (angles.cos.shape[1] * angles.cos.element_size())
    starts = np.array([angles.cos.data_ptr(), angles.sin.data_ptr()])
    return np.where(turns[:, None] < 0, 0, starts + offsets[:, None])


@cache
def _loaded() -> ctypes.CDLL | None:
    """The compiled part, None where there is none that loads, or one of another source than lies
    beside it. Importing torch comes before: its threads are used.
    """
    try:
        native = ctypes.CDLL(str(COMPILED))
        native.promptcache_source.restype = ctypes.c_uint32
        if native.promptcache_source() != zlib.crc32(SOURCE.read_bytes()):
            return None
    except (OSError, AttributeError):
        return None
    native.promptcache_put.restype = None
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    native.promptcache_put.argtypes = (pointer, pointer, number, number, number, ctypes.c_int)
    return native if native.promptcache_usable() else None
