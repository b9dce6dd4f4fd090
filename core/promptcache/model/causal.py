"""Causal attention of queries anywhere in a sequence over contiguous keys, without a mask tensor.

The query heads that share a key head become rows of one matrix, so that keys and values are never
repeated. Which kernel computes it depends on dtype and device only, never on time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from promptcache.model.scores import Block, attention_by_scores, blocks_of, takes_scores


@dataclass(frozen=True)
class Sight:
    """What the queries of one forward see, worked out once for all layers.

    `positions` are theirs, sorted; each sees the keys up to its own.
    """

    positions: Sequence[int]
    _masks: dict[tuple[int, int, torch.device], Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """The queries in blocks, for `attention_by_scores`."""
        return blocks_of(self.positions)

    def mask(self, keys: int, groups: int, device: torch.device) -> Tensor:
        """True where a query sees a key, `[1, 1, groups * queries, keys]`."""
        if (keys, groups, device) not in self._masks:
            places = torch.tensor(self.positions, device=device)[:, None]
            seen = torch.arange(keys, device=device) <= places
            self._masks[keys, groups, device] = seen.repeat(groups, 1)[None, None]
        return self._masks[keys, groups, device]


def causal_attention(
    query: Tensor, key: Tensor, value: Tensor, sight: Sight, scaling: float | None
) -> Tensor:
    """Attention of `query` `[batch, heads, queries, dim]` over the keys that it sees.

    `key` is `[batch, kv_heads, keys, dim]`; the result `[batch, heads, queries, value_dim]`.
    """
    queries, keys, positions = query.shape[2], key.shape[2], sight.positions
    grouped = query.shape[1] > key.shape[1]
    if queries == keys:
        return scaled_dot_product_attention(
            query, key, value, is_causal=queries > 1, scale=scaling, enable_gqa=grouped
        )
    if queries > 1 and takes_scores(query, key):
        return attention_by_scores(query, key, value, sight.blocks, scaling)
    at_the_end = positions[-1] - positions[0] + 1 == queries and positions[-1] == keys - 1
    if query.is_cuda and queries > 1 and at_the_end:
        bias = causal_lower_right(queries, keys)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scaling, enable_gqa=grouped
        )
    mask = None
    if queries > 1 or positions[-1] < keys - 1:
        mask = sight.mask(keys, query.shape[1] // key.shape[1], key.device)
    return _by_rows(query, key, value, mask, scaling)


def folded(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """Attention under a mask that broadcasts to `[batch, 1, queries, keys]`, keys not repeated."""
    groups = query.shape[1] // key.shape[1]
    if mask is not None and groups > 1:
        mask = mask.repeat(1, 1, groups, 1)
    return _by_rows(query, key, value, mask, scaling)


def _by_rows(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """`folded`, under a mask that has a row for each query head of a group."""
    batch, heads, queries, dim = query.shape
    rows = query.reshape(batch, key.shape[1], -1, dim)
    out = scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, queries, value.shape[-1])
