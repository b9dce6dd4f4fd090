"""The arena: preallocated keys and values that a forward writes into at chosen slots.

A transformers `Cache`, so that unmodified models take it. It tells the model how long the sequence
is and which positions the queries have; models ask for their masks with these numbers, so each
gets the mask of its own kind, windows included. Knows nothing about modules or policies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from promptcache.kv import KV
from promptcache.model.causal import Sight, causal_attention
from promptcache.model.overlap import Wait
from promptcache.model.slots import POSITION, read_slots, write_slots
from promptcache.model.spare import SpareMemory


@dataclass(frozen=True, slots=True)
class LayerShape:
    """What one layer's attention states look like."""

    kv_heads: int
    key_dim: int
    value_dim: int
    dtype: torch.dtype
    device: torch.device

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's key and value."""
        return self.kv_heads * (self.key_dim + self.value_dim) * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward computes: which slots it writes, and how long the sequence is then.

    `slots` is `[queries]`, sorted; a token's slot is its position.
    """

    slots: Tensor
    sight: Sight
    first: int
    queries: int
    length: int
    contiguous: bool

    @classmethod
    def over(cls, positions: Sequence[int], length: int, device: torch.device) -> Step:
        """The step that computes sorted `positions` of a sequence of `length` tokens."""
        first, last, queries = positions[0], positions[-1], len(positions)
        contiguous = last - first + 1 == queries
        slots = torch.tensor(positions, device=device)
        return cls(slots, Sight(positions), first, queries, length, contiguous)

    def query_offset(self) -> int | Tensor:
        """What a mask adds to 0, 1, 2, ... to get the queries' positions."""
        if self.contiguous:
            return self.first
        return self.slots - torch.arange(self.queries, device=self.slots.device)


class ArenaLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: keys `[batch, kv_heads, capacity, key_dim]`, values likewise."""

    is_sliding = False

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.keys = keys
        self.values = values
        self.is_initialized = True
        self.step: Step | None = None
        self.arrival: Wait | None = None
        """Waits for states that are put into the layer beside the forward."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the step's slots and return everything up to the step's length, as views."""
        step = self.step
        assert step is not None and key_states.shape[2] == step.queries
        self.settle()
        if step.contiguous:
            stop = step.first + step.queries
            self.keys[:, :, step.first : stop].copy_(key_states)
            self.values[:, :, step.first : stop].copy_(value_states)
        else:
            self.keys.index_copy_(2, step.slots, key_states.to(self.keys.dtype))
            self.values.index_copy_(2, step.slots, value_states.to(self.values.dtype))
        return self.keys[:, :, : step.length], self.values[:, :, : step.length]

    def settle(self) -> None:
        """Wait for states that are put into the layer beside the forward, if there are any."""
        if self.arrival is not None:
            self.arrival()
            self.arrival = None

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """How many keys the coming forward sees, and the position of the first."""
        assert self.step is not None and query_length == self.step.queries
        return self.step.length, 0

    def get_seq_length(self) -> int:
        """Tokens that the coming forward does not compute; ALiBi models add the queries to it."""
        return self.step.length - self.step.queries if self.step else 0

    def get_max_length(self) -> int:
        """Slots of each row."""
        return int(self.keys.shape[2])

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Never called: an arena is allocated when it is made."""
        raise AssertionError("an arena is allocated when it is made")


class Arena(Cache):  # type: ignore[misc]
    """Attention states of a batch of sequences of at most `capacity` tokens each."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        *,
        capacity: int,
        batch: int = 1,
        spare: SpareMemory | None = None,
    ) -> None:
        """With room for `batch` sequences, in `spare` memory where there is some."""
        tensors = _tensors(shapes, batch, capacity, spare, owner=self)
        pairs = zip(tensors[::2], tensors[1::2], strict=True)
        super().__init__(layers=[ArenaLayer(*pair) for pair in pairs])
        self.capacity = capacity
        self.batch = batch
        self._step: Step | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the arena holds."""
        tensors = [tensor for layer in self.layers for tensor in (layer.keys, layer.values)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def aim(self, positions: Sequence[int], length: int) -> None:
        """Say what the next forward computes: sorted `positions` of a sequence of `length` tokens.

        Every other slot below `length` must have been written before.
        """
        assert len(positions) > 0 and positions[-1] < length <= self.capacity
        self._step = Step.over(positions, length, self.layers[0].keys.device)
        for layer in self.layers:
            layer.step = self._step

    def settle(self) -> None:
        """Wait for all states that are put into the arena beside the forward."""
        for layer in self.layers:
            layer.settle()

    def get_query_offset(self, layer_idx: int = 0) -> int | Tensor:
        """What masks add to 0, 1, 2, ... to get the queries' positions."""
        assert self._step is not None
        return self._step.query_offset()

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of the queries that the arena was aimed at (see `attending`)."""
        step = self._step
        assert step is not None
        if (query.shape[2], key.shape[2]) != (step.queries, step.length):
            raise ValueError(
                f"attention of {query.shape[2]} queries over {key.shape[2]} keys, in a forward of "
                f"{step.queries} over {step.length}"
            )
        return causal_attention(query, key, value, step.sight, scaling)

    def write(self, kv: KV, position: int) -> None:
        """Place attention states at `position` of every row, as they are."""
        stop = position + kv.tokens
        for layer, (keys, values) in zip(self.layers, kv.layers(), strict=True):
            layer.keys[:, :, position:stop].copy_(keys, non_blocking=True)
            layer.values[:, :, position:stop].copy_(values, non_blocking=True)

    def write_layer_at(self, index: int, kv: KV) -> None:
        """Put one layer's states that `read_at` read back where they were."""
        layer, positions = self.layers[index], kv.side[POSITION]
        write_slots(layer.keys[0], positions, kv.keys[index])
        write_slots(layer.values[0], positions, kv.values[index])

    def read_at(self, positions: Sequence[int]) -> KV:
        """A copy of the states of the first row at sorted `positions`, which may have gaps.

        The positions are kept with it, as the side tensor POSITION.
        """
        pairs = [(layer.keys[0], layer.values[0]) for layer in self.layers]
        return read_slots(pairs, torch.tensor(positions), positions)

    def read(self, start: int, stop: int, row: int = 0) -> KV:
        """A copy of the states that one row holds at positions `start` to `stop`."""
        return KV(
            tuple(layer.keys[row, :, start:stop].clone() for layer in self.layers),
            tuple(layer.values[row, :, start:stop].clone() for layer in self.layers),
            start,
        )


def _tensors(
    shapes: Sequence[LayerShape], batch: int, capacity: int, spare: SpareMemory | None, owner: Arena
) -> list[Tensor]:
    """Keys and values of each layer in turn, unset."""
    sizes = [
        (batch, shape.kv_heads, capacity, dim)
        for shape in shapes
        for dim in (shape.key_dim, shape.value_dim)
    ]
    kinds = {(shape.dtype, shape.device) for shape in shapes}
    if spare is not None and len(kinds) == 1 and shapes[0].device.type == "cpu":
        return spare.tensors(sizes, shapes[0].dtype, owner)
    places = [shape for shape in shapes for _ in range(2)]
    return [
        torch.empty(size, dtype=place.dtype, device=place.device)
        for size, place in zip(sizes, places, strict=True)
    ]
