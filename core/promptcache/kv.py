"""Attention states of a run of tokens: per layer keys and values, plus named side tensors.

Knows nothing about models, positions in a prompt, or where the tensors are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SENSITIVITY = "sensitivity"
"""A side tensor `[tokens]`, float32: how much each token's states change with what is before."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class KV:
    """The attention states of one run of tokens, as the model computed them.

    `keys[layer]` is `[kv_heads, tokens, key_dim]` and `values[layer]` is
    `[kv_heads, tokens, value_dim]`; layers may differ in heads, dims and device. `start` is the
    position that the first token had when it was computed. `side` holds what a reuse policy keeps
    with a module, each tensor `[tokens, ...]`. `cost` is how long encoding took, in seconds, None
    where that is not known. `compression` names the one that holds these values with no more loss.
    `origin` says in words what they are the states of, where that is known. Parts of a run have
    none of these.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    start: int = 0
    side: Mapping[str, Tensor] = field(default_factory=lambda: MappingProxyType({}))
    cost: float | None = None
    compression: str = ""
    origin: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        assert len(self.keys) == len(self.values) > 0
        assert all(k.shape[1] == v.shape[1] == self.tokens for k, v in self.layers())
        assert all(tensor.shape[0] == self.tokens for tensor in self.side.values())

    @property
    def tokens(self) -> int:
        """How many tokens these are the states of."""
        return self.keys[0].shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor, side tensors included."""
        tensors = (*self.keys, *self.values, *self.side.values())
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def layers(self) -> zip[tuple[Tensor, Tensor]]:
        """The (keys, values) of each layer, first layer first."""
        return zip(self.keys, self.values, strict=True)

    def slice(self, start: int, stop: int) -> KV:
        """The states of tokens `start` to `stop` of the run, as views."""
        assert 0 <= start <= stop <= self.tokens
        return KV(
            tuple(k[:, start:stop] for k in self.keys),
            tuple(v[:, start:stop] for v in self.values),
            self.start + start,
            MappingProxyType({name: tensor[start:stop] for name, tensor in self.side.items()}),
        )

    def pick(self, rows: Tensor) -> KV:
        """A copy of the states of some tokens, `rows [n]` of the run; `start` is theirs no more."""
        return KV(
            tuple(k.index_select(1, rows.to(k.device)) for k in self.keys),
            tuple(v.index_select(1, rows.to(v.device)) for v in self.values),
            self.start,
            MappingProxyType(
                {n: t.index_select(0, rows.to(t.device)) for n, t in self.side.items()}
            ),
        )


def join(parts: Sequence[KV]) -> KV:
    """The states of runs that stood one after the other, as one run."""
    from torch import cat  # here, so that what only names states needs no torch

    assert parts
    assert all(b.start == a.start + a.tokens for a, b in pairwise(parts))
    assert len({frozenset(part.side) for part in parts}) == 1
    return KV(
        tuple(cat(layer, dim=1) for layer in zip(*(part.keys for part in parts), strict=True)),
        tuple(cat(layer, dim=1) for layer in zip(*(part.values for part in parts), strict=True)),
        parts[0].start,
        MappingProxyType({name: cat([p.side[name] for p in parts]) for name in parts[0].side}),
    )
