"""Arenas abreast: sequences that each stand in an arena of their own, computed by one forward.

A transformers `Cache` for that one forward. The new tokens of all sequences stand side by side in
one line, without padding; the model's other layers look at each token alone, and attention, which
does not, is that of each arena, over its own states with the same kernels as when it is alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin

from promptcache.model.arena import Arena, ArenaLayer


class AbreastLayer(CacheLayerMixin):  # type: ignore[misc]
    """One layer of several arenas. `stretches` are where the tokens of each stand in the line."""

    is_sliding = False

    def __init__(self, layers: Sequence[ArenaLayer]) -> None:
        super().__init__()
        self._layers = layers
        self.keys, self.values = layers[0].keys, layers[0].values
        self.is_initialized = True
        self.stretches: Sequence[tuple[int, int]] = ()
        self.length = 0
        self.states: list[tuple[Tensor, Tensor]] = []
        """Keys and values of each arena, as its own layer gives them."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Write each arena's tokens; attention knows the layer by what is returned."""
        self.states = [
            layer.update(key_states[:, :, first:last], value_states[:, :, first:last])
            for layer, (first, last) in zip(self._layers, self.stretches, strict=True)
        ]
        return self.keys, self.values

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """The longest sequence, and the position of the first key: masks are not used."""
        del query_length
        return self.length, 0

    def get_seq_length(self) -> int:
        """Tokens before the coming forward's: models that count positions by it are not served."""
        return 0

    def get_max_length(self) -> int:
        """Slots of the first arena."""
        return int(self.keys.shape[2])

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        """Never called: an arena is allocated when it is made."""
        raise AssertionError("an arena is allocated when it is made")


class Abreast(Cache):  # type: ignore[misc]
    """Arenas of one sequence each, for one forward over tokens of all of them."""

    def __init__(self, arenas: Sequence[Arena]) -> None:
        layers = zip(*(arena.layers for arena in arenas), strict=True)
        super().__init__(layers=[AbreastLayer(each) for each in layers])
        self._arenas = arenas
        self._numbers = {id(layer.keys): number for number, layer in enumerate(self.layers)}
        self._stretches: Sequence[tuple[int, int]] = ()
        self._attended: set[int] = set()

    def aim(self, work: Sequence[tuple[int, Sequence[int]]]) -> None:
        """Say what the forward computes: sorted positions of each arena in turn."""
        assert [number for number, _ in work] == [*range(len(self._arenas))]
        ends = accumulate((len(positions) for _, positions in work), initial=0)
        self._stretches = [*pairwise(ends)]
        self._attended.clear()
        for arena, (_, positions) in zip(self._arenas, work, strict=True):
            arena.aim(positions, positions[-1] + 1)
        length = 1 + max(positions[-1] for _, positions in work)
        for layer in self.layers:
            layer.stretches, layer.length = self._stretches, length

    def check_attended(self) -> None:
        """Raise ValueError where the forward did not leave each layer's attention to the arenas."""
        if missed := len(self.layers) - len(self._attended):
            raise ValueError(f"{missed} of {len(self.layers)} layers did not ask for attention")

    def get_query_offset(self, layer_idx: int = 0) -> int:
        """Nothing: masks are not used."""
        del layer_idx
        return 0

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of the queries that the arenas were aimed at (see `attending`)."""
        del value
        number = self._numbers.get(id(key))
        if number is None or query.shape[2] != self._stretches[-1][1]:
            raise ValueError("the model changes the keys that its cache gives it")
        self._attended.add(number)
        parts = [
            arena.attend(query[:, :, first:last], keys, values, scaling)
            for arena, (keys, values), (first, last) in zip(
                self._arenas, self.layers[number].states, self._stretches, strict=True
            )
        ]
        return torch.cat(parts, dim=2)
