"""Causal attention of queries anywhere in a sequence over contiguous keys, without a mask tensor.

The query heads that share a key head become rows of one matrix, so that keys and values are never
repeated. Which kernel computes it depends on dtype and device only, never on time.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention

from promptcache.model.scores import attention_by_scores, takes_scores


def causal_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    positions: Sequence[int],
    slots: Tensor,
    scaling: float | None,
) -> Tensor:
    """Attention of `query` `[batch, heads, queries, dim]` at sorted `positions`, each query over
    the keys up to its own position; `slots` are the positions as a tensor on the keys' device.

    `key` is `[batch, kv_heads, keys, dim]`; the result `[batch, heads, queries, value_dim]`.
    """
    queries, keys = query.shape[2], key.shape[2]
    grouped = query.shape[1] > key.shape[1]
    if queries == keys:
        return scaled_dot_product_attention(
            query, key, value, is_causal=queries > 1, scale=scaling, enable_gqa=grouped
        )
    if queries > 1 and takes_scores(query, key):
        return attention_by_scores(query, key, value, positions, scaling)
    at_the_end = positions[-1] - positions[0] + 1 == queries and positions[-1] == keys - 1
    if query.is_cuda and queries > 1 and at_the_end:
        bias = causal_lower_right(queries, keys)
        return scaled_dot_product_attention(
            query, key, value, attn_mask=bias, scale=scaling, enable_gqa=grouped
        )
    mask = None
    if queries > 1 or positions[-1] < keys - 1:
        mask = (torch.arange(keys, device=slots.device) <= slots[:, None])[None, None]
    return folded(query, key, value, mask, scaling)


def folded(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None
) -> Tensor:
    """Attention under a mask that broadcasts to `[batch, 1, queries, keys]`, keys not repeated."""
    batch, heads, queries, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    rows = query.reshape(batch, kv_heads, groups * queries, dim)
    if mask is not None and groups > 1:
        mask = mask.repeat(1, 1, groups, 1)
    out = scaled_dot_product_attention(rows, key, value, attn_mask=mask, scale=scaling)
    return out.reshape(batch, heads, queries, value.shape[-1])
