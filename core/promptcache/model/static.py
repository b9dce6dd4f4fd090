"""Forwards of fixed sizes: over an arena that stays where it is, of tokens padded to some number.

All that such a forward reads and writes lies where it lay the last time, and which keys a query
sees is worked out on the device, from the query's slot. So it can be recorded once and replayed
for other tokens at other positions. Knows nothing about modules or policies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, count
from math import prod
from threading import Lock
from weakref import finalize

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from promptcache.model.arena import Arena, ArenaLayer, LayerShape, Step
from promptcache.model.causal import Sight, folded
from promptcache.model.graphs import Recorder, Recordings

QUERIES = (1, 16, 32, 64, 128, 256)
"""How many tokens a forward of fixed size computes; with more, launches are not what takes long."""
SMALLEST = 256
"""Slots of the smallest arena."""
LARGEST = 16384
"""Slots of the largest: it is kept between prompts."""


def slots_for(tokens: int, longest: int | None = None) -> int | None:
    """The slots of an arena that has room for so many tokens and one more, for padding.

    None where that is more than it may have, or more than the `longest` sequence of the model.
    """
    most = LARGEST if longest is None else min(LARGEST, longest // 16 * 16)
    fitting = (min(size, most) for size in _sizes() if min(size, most) > tokens or size > most)
    found = next(fitting)
    return found if found > tokens else None


def _sizes() -> Iterator[int]:
    for power in count():
        yield SMALLEST << power
        yield SMALLEST * 3 // 2 << power


class Inputs:
    """What a forward over `queries` tokens reads, in one piece of the device's memory.

    `ids` and `positions` are `[1, queries]`, `slots` is `[queries]`; `last` `[1]` is the place of
    the last token that is not padding.
    """

    def __init__(self, queries: int, device: torch.device) -> None:
        self.queries = queries
        self._now = self._before = torch.zeros(3 * queries + 1, dtype=torch.long)
        self._all = self._now.to(device, copy=True)
        self.ids, self.positions, slots = self._all[:-1].view(3, 1, queries).unbind()
        self.slots, self.last = slots[0], self._all[-1:]
        self._padding = 0

    def fill(self, ids: Sequence[int], positions: Sequence[int], padding: int) -> None:
        """Let the coming forward compute these tokens, and write others to the slot `padding`."""
        rest = [0] * (self.queries - len(ids))
        slots = [*positions, *(padding for _ in rest)]
        last = max(len(ids) - 1, 0)
        self._padding = padding
        self._send(torch.tensor([*ids, *rest, *positions, *rest, *slots, last]))

    def blank(self) -> None:
        """Let the coming forward compute padding alone; `restore` takes that back."""
        before = self._now
        self.fill((), (), self._padding)
        self._before = before

    def restore(self) -> None:
        """What was filled in before `blank`."""
        self._send(self._before)

    def _send(self, values: Tensor) -> None:
        self._before = self._now = values
        if self._all.is_cuda:
            values = values.pin_memory()
        self._all.copy_(values, non_blocking=True)


class StaticArena(Arena):
    """An arena of one sequence in memory of somebody else's, whose last slot is for padding."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Of these keys and values `[1, kv_heads, slots, dim]`, which hold finite numbers."""
        Cache.__init__(self, layers=[ArenaLayer(*pair) for pair in pairs])
        self.slots = int(pairs[0][0].shape[2])
        self.capacity = self.slots - 1
        self.batch = 1
        self._step: Step | None = None
        self._seen: Tensor | None = None

    def aim(self, positions: Sequence[int], length: int) -> None:
        """Say what the next forward computes, of any size (see `Arena.aim`)."""
        self._seen = None
        super().aim(positions, length)

    def aim_at(self, inputs: Inputs) -> None:
        """Let the next forward be of fixed size: it looks at every slot, through a mask."""
        assert inputs.queries <= self.slots
        places = torch.arange(self.slots, device=inputs.slots.device)
        self._seen = (places <= inputs.slots[:, None])[None, None]
        self._step = Step(inputs.slots, Sight(()), 0, inputs.queries, self.slots, contiguous=False)
        for layer in self.layers:
            layer.step = self._step

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of the queries that the arena was aimed at (see `attending`)."""
        if self._seen is None:
            return super().attend(query, key, value, scaling)
        if (query.shape[2], key.shape[2]) != self._seen.shape[2:]:
            queries, keys = self._seen.shape[2:]
            raise ValueError(
                f"attention of {query.shape[2]} queries over {key.shape[2]} keys, in a forward of "
                f"{queries} over {keys}"
            )
        return folded(query, key, value, self._seen, scaling)


class StaticForwards:
    """Forwards of fixed sizes over one arena, which one prompt at a time has.

    `state` says what the model is like now: recordings are of one state, and there is no arena
    while it is None. Safe to use from several threads, `forward` under the model's lock.
    """

    def __init__(
        self,
        shapes: Sequence[LayerShape],
        longest: int | None,
        recorder: Recorder,
        state: Callable[[], object],
    ) -> None:
        """For a model whose layers are all of one dtype, on one device."""
        self._shapes = shapes
        self._longest = longest
        self._read_state = state
        self._state: object = None
        self._inputs: dict[int, Inputs] = {}
        self._lock = Lock()
        self._lent = False
        self._slots = 0
        self._memory = torch.empty(0, dtype=shapes[0].dtype, device=shapes[0].device)
        self.recordings = Recordings(recorder)

    def lend(self, tokens: int) -> StaticArena | None:
        """An arena for so many tokens, until it is dropped; None while another prompt has it.

        Also None where none may be so large. It holds nothing: what one prompt leaves is wiped.
        """
        slots = slots_for(tokens, self._longest)
        if slots is None:
            return None
        with self._lock:
            if self.recordings.given_up:
                self._free()
                return None
            state = self._read_state()
            if self._lent or state is None or not self._has(slots):
                return None
            if state != self._state:
                self.recordings.clear()
                self._state = state
            self._lent = True
            self._memory.zero_()
            pairs = self._pairs(slots)
        arena = StaticArena(pairs)
        finalize(arena, self._take_back).atexit = False
        return arena

    def _take_back(self) -> None:
        self._lent = False  # no lock: it may be collected while this thread holds it

    def _has(self, slots: int) -> bool:
        """Whether there is memory for so many slots, having asked for it if need be."""
        if slots > self._slots:
            self._free()
            numbers = sum(s.kv_heads * (s.key_dim + s.value_dim) for s in self._shapes)
            try:
                self._memory = self._memory.new_zeros(slots * numbers)
            except torch.OutOfMemoryError:
                return False
            self._slots = slots
        return True

    def _free(self) -> None:
        self.recordings.clear()
        self._slots, self._memory = 0, self._memory[:0].clone()

    def _pairs(self, slots: int) -> list[tuple[Tensor, Tensor]]:
        """Each layer's keys and values, in as many slots of the memory."""
        sizes = [
            (1, s.kv_heads, self._slots, dim)
            for s in self._shapes
            for dim in (s.key_dim, s.value_dim)
        ]
        starts = accumulate(map(prod, sizes), initial=0)
        tensors = [
            self._memory[start : start + prod(size)].view(size)[:, :, :slots]
            for start, size in zip(starts, sizes, strict=False)
        ]
        return list(zip(tensors[::2], tensors[1::2], strict=True))

    def forward(
        self,
        arena: StaticArena,
        ids: Sequence[int],
        positions: Sequence[int],
        logits: Callable[[Inputs], Tensor],
    ) -> Tensor:
        """The `logits` of the last of at most `QUERIES[-1]` tokens, run or replayed."""
        queries = next(size for size in QUERIES if size >= len(ids))
        if queries not in self._inputs:
            self._inputs[queries] = Inputs(queries, self._memory.device)
        inputs = self._inputs[queries]
        inputs.fill(ids, positions, arena.slots - 1)
        arena.settle()

        def run() -> Tensor:
            arena.aim_at(inputs)
            return logits(inputs)

        return self.recordings.run((arena.slots, queries), run, inputs)
