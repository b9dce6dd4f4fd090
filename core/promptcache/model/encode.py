"""Encode modules: run the model over each once, after its context, many in one padded batch.

Rows are padded on the right, where causal attention keeps the padding from being seen, so no row
knows of another. Returns attention states; where they are kept is not decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner, Traits

BATCH_TOKENS = 4096
"""Slots of one batch at most, contexts and padding included, unless one row alone needs more."""
IN_BACKGROUND = 512
"""The same where requests may wait for the model until the batch is done."""


def encode(
    runner: ModelRunner,
    traits: Traits,
    rows: Sequence[Sequence[int]],
    context: KV | None = None,
    slots: int = BATCH_TOKENS,
) -> list[KV]:
    """The attention states of each row of token ids, computed after `context`.

    One forward goes over at most so many `slots`, unless one row alone needs more.

    The states start at the context's end; the context's own are not part of them. No row may
    reach past the model's `movement.limit`: it would change the frequencies of its whole batch.
    """
    base = context.tokens if context else 0
    limit = traits.movement.limit
    assert limit is None or base + max(map(len, rows)) <= limit
    states: dict[int, KV] = {}
    for batch in _batches([len(row) for row in rows], base, slots):
        width = max(len(rows[index]) for index in batch)
        ids = torch.zeros(len(batch), width, dtype=torch.long)
        for line, index in enumerate(batch):
            ids[line, : len(rows[index])] = torch.tensor(rows[index])
        arena = Arena(traits.layers, capacity=base + width, batch=len(batch), spare=runner.spare)
        if context is not None:
            arena.write(context, 0)
        runner.forward(ids, range(base, base + width), arena, attention=traits.attention)
        for line, index in enumerate(batch):
            states[index] = arena.read(base, base + len(rows[index]), row=line)
    return [states[index] for index in range(len(rows))]


def _batches(lengths: Sequence[int], base: int, slots: int) -> Iterator[list[int]]:
    """Indices of rows that go together: of similar length, within the batch's slots."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: lengths[i], reverse=True):
        widest = lengths[batch[0]] if batch else lengths[index]
        if batch and (len(batch) + 1) * (base + widest) > slots:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
