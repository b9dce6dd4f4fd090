"""Expected attention states: the mean over what may stand before a module, not one case of it.

A module is encoded several times, each time after its context and one decoy; the copies are
moved to one place and averaged. How much the copies differ says which of its tokens depend most on
what stands before them. Knows token ids, not texts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from promptcache.kv import KV, SENSITIVITY, join
from promptcache.model.encode import BATCH_TOKENS, encode
from promptcache.model.runner import ModelRunner, Traits
from promptcache.rotate import Mover


def encode_expected(
    runner: ModelRunner,
    traits: Traits,
    rows: Sequence[Sequence[int]],
    context: KV | None,
    decoys: Sequence[Sequence[int]],
    slots: int = BATCH_TOKENS,
) -> list[KV]:
    """The expected attention states of each row of token ids, as if it stood right after `context`.

    Each token's sensitivity, the variance of its keys and values over the decoys, summed over
    layers, heads and dimensions, comes as a side tensor. `decoys` are rows of token ids, at least
    one, which may be empty; no row may reach past the model's `movement.limit` behind any of them.
    `slots` are those of `encode`.
    """
    assert decoys
    start = context.tokens if context else 0
    means: list[_Mean] = [_Mean(start) for _ in rows]
    for decoy in decoys:
        behind = _behind(runner, traits, decoy, context)
        for mean, kv in zip(means, encode(runner, traits, rows, behind, slots), strict=True):
            mean.add(kv, traits)
    return [mean.states() for mean in means]


def _behind(
    runner: ModelRunner, traits: Traits, decoy: Sequence[int], context: KV | None
) -> KV | None:
    """The states of a context and a decoy behind it; those of the context for an empty one."""
    if not decoy:
        return context
    [apart] = encode(runner, traits, [decoy], context)
    return join([_beside(context, apart), apart]) if context else apart


def sensitivity(kv: KV, other: KV) -> Tensor:
    """The squared difference of two encodings of one module, `[tokens]`, summed over the rest.

    Both stand at the same place.
    """
    assert kv.start == other.start
    parts = zip((*kv.keys, *kv.values), (*other.keys, *other.values), strict=True)
    return _summed([(a.to(b.device).float() - b.float()).square().sum((0, 2)) for a, b in parts])


class _Mean:
    """The running mean of encodings of one module, and their variance (Welford, 1962)."""

    def __init__(self, start: int) -> None:
        self._start = start
        self._count = 0
        self._dtypes: list[torch.dtype] = []
        self._means: list[Tensor] = []
        self._spread: list[Tensor] = []

    def add(self, kv: KV, traits: Traits) -> None:
        """Take in one more encoding."""
        self._count += 1
        tensors = [*_moved_keys(kv, self._start, traits), *(value.float() for value in kv.values)]
        if self._count == 1:
            self._dtypes = [tensor.dtype for tensor in (*kv.keys, *kv.values)]
            self._means = [torch.zeros_like(tensor) for tensor in tensors]
            self._spread = [tensor.new_zeros(tensor.shape[1]) for tensor in tensors]
        for mean, spread, tensor in zip(self._means, self._spread, tensors, strict=True):
            change = tensor - mean
            mean.add_(change, alpha=1 / self._count)
            spread.add_((change * (tensor - mean)).sum((0, 2)))

    def states(self) -> KV:
        """The mean, in the encodings' own dtype, with the sensitivity beside it."""
        cast = [mean.to(dtype) for mean, dtype in zip(self._means, self._dtypes, strict=True)]
        layers = len(cast) // 2
        spread = _summed(self._spread) / self._count
        side = MappingProxyType({SENSITIVITY: spread})
        return KV(tuple(cast[:layers]), tuple(cast[layers:]), self._start, side)


def _summed(parts: Sequence[Tensor]) -> Tensor:
    """The sum of tensors that may be on several devices, on the first one's."""
    return torch.stack([part.to(parts[0].device) for part in parts]).sum(0)


def _beside(kv: KV, other: KV) -> KV:
    """The states alone, on the devices that those of another run are on."""
    return KV(
        tuple(a.to(b.device) for a, b in zip(kv.keys, other.keys, strict=True)),
        tuple(a.to(b.device) for a, b in zip(kv.values, other.values, strict=True)),
        kv.start,
    )


def _moved_keys(kv: KV, start: int, traits: Traits) -> Iterator[Tensor]:
    """Each layer's keys in float32, as if the first token stood at `start`."""
    distance = start - kv.start
    rotations = traits.movement.rotations or (None,) * len(kv.keys)
    mover = Mover(rotations, [distance])
    for layer, key in enumerate(kv.keys):
        out = torch.empty_like(key, dtype=torch.float32)
        mover.move(out, key, layer, distance)
        yield out
