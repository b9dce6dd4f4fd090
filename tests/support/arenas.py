"""Arenas and states of made-up layers: two shapes in turns, as of no real model."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.model.arena import LayerShape
from promptcache.model.spare import SpareMemory
from promptcache.rotate import Rotation

CPU = torch.device("cpu")


class Poisoned(SpareMemory):
    """Memory in which whatever is read before it was written is not a number."""

    def tensors(
        self, shapes: Sequence[tuple[int, ...]], dtype: torch.dtype, owner: object
    ) -> list[Tensor]:
        return [tensor.fill_(torch.nan) for tensor in super().tensors(shapes, dtype, owner)]


def states(shapes: Sequence[LayerShape], tokens: int, start: int) -> KV:
    generator = torch.Generator().manual_seed(tokens * 1000 + start)
    keys, values = (
        tuple(
            torch.randn(shape.kv_heads, tokens, dim(shape), generator=generator).to(shape.dtype)
            for shape in shapes
        )
        for dim in (lambda s: s.key_dim, lambda s: s.value_dim)
    )
    return KV(keys, values, start)


def shapes(dtype: torch.dtype) -> list[LayerShape]:
    return [LayerShape(2, 8, 8, dtype, CPU), LayerShape(1, 16, 4, dtype, CPU)] * 2


HALVES = Rotation(torch.tensor([1.0, 0.3, 0.01]))
PAIRS = Rotation(torch.tensor([0.7, 0.2]), interleaved=True, last=True)
