"""Attention of few queries over many keys in bfloat16 on a CPU: three matrix products' worth.

A CPU multiplies bfloat16 matrices far faster than its fused attention kernels run, if the scores
may be bfloat16 too. They lose no more than the weights do, which every kernel rounds to bfloat16,
when each row is first shifted by about its maximum: rounding is relative, and the scores near the
maximum, which matter, become small numbers. Softmax does not depend on the shift. The maximum over
a sample of the keys is near enough. See `docs/decisions.md` for what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

LEAST = 1024
"""Keys from which this way is the faster one: it takes more steps than one fused kernel."""
SAMPLED = 256
"""Keys, at least, over which a row's maximum is looked for, where there are so many."""
AT_ONCE = 1_250_000
"""Scores that one core works on at a time: they fit its cache."""
QUERIES = 64
"""Queries that are multiplied at a time, at most."""
REACH = 1024
"""Keys that lie between the first and the last of these queries, at most, unless they follow one
another: what a later query sees is computed for the earlier ones in vain."""


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Queries `first` to `last`, which are multiplied together, and the `seen` first keys.

    `hidden` says which of the last of these keys each query does not see,
    `[queries, keys after the first query]`.
    """

    first: int
    last: int
    seen: int
    hidden: Tensor


def takes_scores(query: Tensor, key: Tensor) -> bool:
    """Whether this way is the faster one, and as exact, for such tensors."""
    many = key.shape[2] >= LEAST
    on_cpu = query.device.type == "cpu" and query.dtype == key.dtype == torch.bfloat16
    return many and on_cpu and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def attention_by_scores(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: Sequence[Block],
    scaling: float | None,
) -> Tensor:
    """Attention of `query` `[batch, heads, queries, dim]`, block by block, over what they see of
    the `key`s `[batch, kv_heads, keys, dim]`; `[batch, heads, queries, value_dim]`.
    """
    batch, heads, _, dim = query.shape
    kv_heads = key.shape[1]
    groups = heads // kv_heads
    scale = dim**-0.5 if scaling is None else scaling
    out = query.new_empty(*query.shape[:3], value.shape[-1])
    pairs = batch * kv_heads
    rows = query.reshape(pairs, groups, -1, dim)
    keys, values = key.reshape(pairs, -1, dim), value.reshape(pairs, -1, value.shape[-1])
    results = out.view(pairs, groups, -1, value.shape[-1])
    scores = query.new_empty(0)
    for each in blocks:
        first, last, seen, hidden = each.first, each.last, each.seen, each.hidden
        high = groups * (last - first)
        block = rows[:, :, first:last].reshape(pairs, high, dim)
        shift = _highest(block, keys[:, :seen], scale).neg_()
        wide = max(1, AT_ONCE * torch.get_num_threads() // (high * seen))
        for start in range(0, pairs, wide):
            chosen = slice(start, min(pairs, start + wide))
            shape = (chosen.stop - start, high, seen)
            if scores.shape != shape:
                scores = query.new_empty(shape)
            torch.baddbmm(
                shift[chosen].expand(shape),
                block[chosen],
                _dense(keys[chosen, :seen]).transpose(1, 2),
                alpha=scale,
                out=scores,
            )
            grid = scores.view(-1, groups, last - first, seen)
            grid[..., seen - hidden.shape[1] :].masked_fill_(hidden, -torch.inf)
            torch.softmax(scores, -1, out=scores)
            mixed = torch.bmm(scores, values[chosen, :seen])
            results[chosen, :, first:last] = mixed.view(-1, groups, last - first, value.shape[-1])
    return out


def _dense(keys: Tensor) -> Tensor:
    """The keys `[pairs, seen, dim]` without a gap, also in the strides of a single pair.

    Otherwise the product would copy them transposed, which takes longer than the product.
    """
    return keys.reshape(-1, keys.shape[-1]).view(keys.shape)


def blocks_of(positions: Sequence[int]) -> tuple[Block, ...]:
    """The queries at sorted `positions`, in blocks; each sees the keys up to its own."""
    ends = list(_ends(positions))
    return tuple(_block(positions, *pair) for pair in pairwise([0, *ends]))


def _ends(positions: Sequence[int]) -> Iterator[int]:
    """Where the blocks end."""
    first = 0
    for index in range(1, len(positions)):
        if index - first < QUERIES:
            following = positions[index] - positions[first] == index - first
            if following or positions[index] - positions[first] < REACH:
                continue
        yield index
        first = index
    yield len(positions)


def _block(positions: Sequence[int], first: int, last: int) -> Block:
    mine, seen = positions[first:last], positions[last - 1] + 1
    after = torch.arange(mine[0] + 1, seen)
    return Block(first, last, seen, after > torch.tensor(mine)[:, None])


def _highest(block: Tensor, keys: Tensor, scale: float) -> Tensor:
    """About the highest score of each row, `[pairs, rows, 1]`: that of a sample of the keys."""
    stride = max(1, keys.shape[1] // SAMPLED)
    sampled = torch.bmm(block, keys[:, ::stride].transpose(1, 2))
    return sampled.amax(-1, keepdim=True).mul_(scale)
