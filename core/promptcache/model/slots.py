"""States in slots that need not follow one another, read with the positions of their tokens.

Knows tensors, not what holds them.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from promptcache.kv import KV

POSITION = "position"
"""The side tensor `[tokens]` of states that do not follow one another: where each token stood."""


def read_slots(
    layers: Sequence[tuple[Tensor, Tensor]], slots: Tensor, positions: Sequence[int]
) -> KV:
    """A copy of the states in some slots of each layer's `[kv_heads, slots, dim]`.

    The positions of their tokens are kept with it, as the side tensor POSITION.
    """
    keys, values = (
        tuple(tensor.index_select(1, slots.to(tensor.device)) for tensor in tensors)
        for tensors in zip(*layers, strict=True)
    )
    side = MappingProxyType({POSITION: torch.tensor(positions)})
    return KV(keys, values, positions[0], side)


def write_slots(out: Tensor, slots: Tensor, states: Tensor) -> None:
    """Put states `[kv_heads, n, dim]`, on whatever device, into slots of one layer's `out`."""
    out.index_copy_(1, slots.to(out.device), states.to(out.device))
