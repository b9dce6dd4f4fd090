"""Attention over a part of what a query sees, and what puts such parts together again.

Beside its result each part gives the logarithm of the sum of its exponentiated scores, which says
how much of the whole it is (Milakov and Gimelshein, 2018). All tensors have the queries by their
key head: `[kv_heads, queries, groups, dim]`, where `groups` query heads share a key head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

QUERIES = 256
"""Queries that a mask is made for at a time, where one is needed."""
FUSED = (torch.float32, torch.bfloat16, torch.float16)


def over_all(query: Tensor, key: Tensor, value: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Attention of every query over every `key` `[kv_heads, keys, dim]`.

    The result is `[kv_heads, queries, groups, value_dim]`, its logarithms, in float32,
    `[kv_heads, queries, groups]`.
    """
    kv_heads, queries, groups, dim = query.shape
    rows = query.reshape(1, kv_heads, queries * groups, dim)
    out, log = _attention(rows, key[None], value[None], scale)
    grid = (kv_heads, queries, groups)
    return out.reshape(*grid, value.shape[-1]), log.reshape(grid)


def up_to(
    query: Tensor, key: Tensor, value: Tensor, ranks: Sequence[int], scale: float
) -> tuple[Tensor, Tensor]:
    """`over_all`, each query over the keys up to the one of its own rank; `ranks` are sorted."""
    queries = query.shape[1]
    seen = ranks[-1] + 1
    if queries == 1:
        return over_all(query, key[:, :seen], value[:, :seen], scale)
    if queries == seen:
        return _by_head(query, key[:, :seen], value[:, :seen], scale, causal=True)
    outs, logs = [], []
    for first in range(0, queries, QUERIES):
        block = ranks[first : first + QUERIES]
        seen = block[-1] + 1
        hidden = torch.arange(seen) > torch.tensor(block)[:, None]
        mask = torch.zeros(hidden.shape, dtype=query.dtype).masked_fill_(hidden, -torch.inf)
        out, log = _by_head(
            query[:, first : first + QUERIES],
            key[:, :seen],
            value[:, :seen],
            scale,
            mask=mask.to(query.device),
        )
        outs.append(out)
        logs.append(log)
    return torch.cat(outs, dim=1), torch.cat(logs, dim=1)


class Merged:
    """The attention of queries, part by part, in float32.

    The first part has to hold a key for every query; each token sees itself.
    """

    def __init__(self, out: Tensor, log: Tensor) -> None:
        self._out = out.float()
        self._highest = log
        self._total = torch.ones_like(log)

    def add(self, which: Tensor, out: Tensor, log: Tensor) -> None:
        """Add parts of the queries `which` `[n]`, where a query may be named more than once."""
        places = which[None, :, None].expand_as(log)
        highest = self._highest.scatter_reduce(1, places, log, "amax")
        fading = (self._highest - highest).exp_()
        share = (log - highest.index_select(1, which)).exp_()
        self._total = self._total.mul_(fading).index_add_(1, which, share)
        weighted = out.float().mul_(share[..., None])
        self._out = self._out.mul_(fading[..., None]).index_add_(1, which, weighted)
        self._highest = highest

    def result(self) -> Tensor:
        """The attention over all parts, `[kv_heads, queries, groups, value_dim]`."""
        return self._out / self._total[..., None]


def _by_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`over_all` under a mask: query heads side by side, keys and values seen anew by each."""
    groups = query.shape[2]
    out, log = _attention(
        query.transpose(1, 2),
        key[:, None].expand(-1, groups, -1, -1),
        value[:, None].expand(-1, groups, -1, -1),
        scale,
        causal=causal,
        mask=mask,
    )
    return out.transpose(1, 2), log.transpose(1, 2)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    scale: float,
    *,
    causal: bool = False,
    mask: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Attention of `[batch, heads, queries, dim]`, and its logarithms `[batch, heads, queries]`.

    `causal` is for as many queries as keys; `mask` is added to the scores.
    """
    same = query.dtype == key.dtype == value.dtype and query.dtype in FUSED
    if query.device.type == "cpu" and same and query.shape[-1] == value.shape[-1]:
        fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
        out, log = fused(query, key, value, 0.0, causal, attn_mask=mask, scale=scale)
        return out, log
    scores = torch.matmul(query, key.transpose(-1, -2)).float().mul_(scale)
    if causal:
        shape = scores.shape[-2:]
        later = torch.ones(shape, dtype=torch.bool, device=scores.device).triu_(1)
        scores.masked_fill_(later, -torch.inf)
    elif mask is not None:
        scores.add_(mask)
    log = scores.logsumexp(-1)
    shares = scores.sub_(log[..., None]).exp_().to(value.dtype)
    return torch.matmul(shares, value), log
