"""The arena of a batch: each row's own states, and one copy of the modules that rows share.

A transformers `Cache`, like the arena of one sequence. One forward computes the new tokens of all
rows side by side in one line, without padding; the model's other layers look at each token alone,
and attention, which does not, is ours: a query sees its own row's states up to its position, and
the modules that its row was lent before it. A token's slot says where its states lie, its position
where it stands.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from promptcache.kv import KV
from promptcache.model.arena import LayerShape
from promptcache.model.lent import Asked, LentModules, Loan, Span
from promptcache.model.partial import Merged, up_to
from promptcache.model.slots import POSITION, read_slots, write_slots
from promptcache.rotate import Rotation


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt of `length` tokens: `own` are the sorted positions whose states it holds itself,
    `loans` the others; `room` is how many tokens its answer may have.
    """

    own: Sequence[int]
    loans: Sequence[Loan]
    length: int
    room: int

    @property
    def slots(self) -> int:
        """How many tokens' states the row has room for."""
        return len(self.own) + self.room

    def rank(self, position: int) -> int:
        """The place of a position among those whose states are the row's own."""
        if position >= self.length:
            return len(self.own) + position - self.length
        rank = bisect_left(self.own, position)
        assert self.own[rank] == position
        return rank


@dataclass(frozen=True, slots=True)
class Step:
    """What one forward computes: the queries of each row, and the slots of all of them."""

    spans: Sequence[Span]
    ranks: Sequence[Sequence[int]]
    slots: Tensor
    length: int
    asked: Sequence[Asked]


class SharedLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer: keys `[kv_heads, slots, key_dim]` of all rows' own tokens, values likewise."""

    is_sliding = False

    def __init__(self, shape: LayerShape, slots: int) -> None:
        super().__init__()
        rows = (shape.kv_heads, slots)
        self.keys = torch.empty(*rows, shape.key_dim, dtype=shape.dtype, device=shape.device)
        self.values = torch.empty(*rows, shape.value_dim, dtype=shape.dtype, device=shape.device)
        self.given = self.keys[None], self.values[None]
        """What the model is given for its keys and values: attention knows the layer by it."""
        self.is_initialized = True
        self.step: Step | None = None

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write the step's slots and return all of them, as views."""
        assert self.step is not None
        slots = self.step.slots.to(self.keys.device)
        self.keys.index_copy_(1, slots, key_states[0].to(self.keys.dtype))
        self.values.index_copy_(1, slots, value_states[0].to(self.values.dtype))
        return self.given

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The length of the longest row, and the position of the first key: masks are not used."""
        del query_length
        assert self.step is not None
        return self.step.length, 0

    def get_seq_length(self) -> int:
        """Tokens before the coming forward's: models that count positions by it are not served."""
        return 0

    def get_max_length(self) -> int:
        """Slots of all rows."""
        return int(self.keys.shape[1])

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Never called: an arena is allocated when it is made."""
        raise AssertionError("an arena is allocated when it is made")


class SharedArena(Cache):  # type: ignore[misc]
    """Attention states of the rows of a batch, those of the modules that they share held once."""

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        rows: Sequence[Row],
        rotations: Sequence[Rotation | None],
    ) -> None:
        """With room for `rows`; `rotations` say how the keys of each layer move."""
        self.rows = tuple(rows)
        *self._starts, slots = accumulate((row.slots for row in rows), initial=0)
        super().__init__(layers=[SharedLayer(shape, slots) for shape in shapes])
        loans, devices = [row.loans for row in rows], [shape.device for shape in shapes]
        self.lent = LentModules(loans, rotations, devices)
        self._numbers = {id(layer.given[0]): n for n, layer in enumerate(self.layers)}
        self._step: Step | None = None
        self._attended: set[int] = set()
        self._answering: tuple[tuple[int, ...], Sequence[Asked]] = ((), ())

    @property
    def nbytes(self) -> int:
        """Bytes that the arena holds: the rows' own states, none of the modules'."""
        tensors = [tensor for layer in self.layers for tensor in (layer.keys, layer.values)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def aim(self, work: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Say what the next forward computes: rows, and sorted positions of each."""
        ends = accumulate((len(positions) for _, positions in work), initial=0)
        spans = [
            Span(row, first, last, positions)
            for (row, positions), (first, last) in zip(work, pairwise(ends), strict=True)
        ]
        ranks = [[self.rows[s.row].rank(p) for p in s.positions] for s in spans]
        slots = [
            self._starts[span.row] + rank
            for span, among in zip(spans, ranks, strict=True)
            for rank in among
        ]
        device = self.layers[0].keys.device
        self._step = Step(
            spans,
            ranks,
            torch.tensor(slots, device=device),
            1 + max(positions[-1] for _, positions in work),
            self._asked_by(spans, device),
        )
        self._attended.clear()
        for layer in self.layers:
            layer.step = self._step

    def check_attended(self) -> None:
        """Raise ValueError where the forward did not leave each layer's attention to the arena."""
        if missed := len(self.layers) - len(self._attended):
            raise ValueError(f"{missed} of {len(self.layers)} layers did not ask for attention")

    def _asked_by(self, spans: Sequence[Span], device: torch.device) -> Sequence[Asked]:
        """What the modules are asked by; the same at every token of the same rows' answers."""
        answering = all(span.positions[0] >= self.rows[span.row].length for span in spans)
        if not answering:
            return self.lent.asked_by(spans, device)
        rows = tuple(span.row for span in spans)
        if self._answering[0] != rows:
            self._answering = rows, self.lent.asked_by(spans, device)
        return self._answering[1]

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Nothing: masks are not used."""
        del layer_idx
        return 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of the queries that the arena was aimed at (see `attending`)."""
        del value
        step = self._step
        assert step is not None
        if (number := self._numbers.get(id(key))) is None or query.shape[2] != step.spans[-1].last:
            raise ValueError("the model changes the keys that its cache gives it")
        self._attended.add(number)
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        _, heads, queries, dim = query.shape
        by_head = query.view(key.shape[1], -1, queries, dim).transpose(1, 2).contiguous()
        layer = self.layers[number]
        parts = [
            up_to(
                by_head[:, span.first : span.last],
                layer.keys[:, self._starts[span.row] :],
                layer.values[:, self._starts[span.row] :],
                ranks,
                scale,
            )
            for span, ranks in zip(step.spans, step.ranks, strict=True)
        ]
        outs, logs = zip(*parts, strict=True)
        merged = Merged(torch.cat(outs, dim=1), torch.cat(logs, dim=1))
        self.lent.attend(merged, by_head, number, step.asked, scale)
        whole = merged.result().to(query.dtype)
        return whole.transpose(1, 2).reshape(1, heads, queries, -1)

    def write_at(self, row: int, kv: KV) -> None:
        """Put states that `read_at` read where one row has their positions."""
        slots = self._slots(row, kv.side[POSITION].tolist())
        for layer, (keys, values) in zip(self.layers, kv.layers(), strict=True):
            write_slots(layer.keys, slots, keys)
            write_slots(layer.values, slots, values)

    def read_at(self, row: int, positions: Sequence[int]) -> KV:
        """A copy of one row's own states at sorted `positions`, which are kept with it."""
        slots = self._slots(row, positions)
        pairs = [(layer.keys, layer.values) for layer in self.layers]
        return read_slots(pairs, slots, positions)

    def _slots(self, row: int, positions: Sequence[int]) -> Tensor:
        """Where the states of one row's own tokens at these positions lie."""
        start, ranks = self._starts[row], map(self.rows[row].rank, positions)
        return torch.tensor([start + rank for rank in ranks], dtype=torch.long)


@dataclass(frozen=True, slots=True)
class SharedRow:
    """One row of an arena, as what a prompt's states stand in."""

    arena: SharedArena
    row: int

    def read_at(self, positions: Sequence[int]) -> KV:
        """A copy of the row's own states at sorted `positions`, which are kept with it."""
        return self.arena.read_at(self.row, positions)
