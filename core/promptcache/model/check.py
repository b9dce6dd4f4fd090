"""The check pass: the states that a full prefill would give in one of a model's first layers.

One forward that goes no deeper than that layer: the cache itself ends it, once the layer has
written its keys and values, so that no model has to know of it. Knows a prompt's tokens and the
modules' states, not what is made of a comparison.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner, Traits


class _EndedError(Exception):
    """No fault: the last layer of `FirstLayers` has its states, and nothing is left to compute."""


class FirstLayers(Arena):
    """An arena of a model's first layers alone, whose last one ends the forward."""

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write one layer's states, and go on only if there is another."""
        given: tuple[Tensor, Tensor] = super().update(
            key_states, value_states, layer_idx, *args, **kwargs
        )
        if layer_idx == len(self.layers) - 1:
            raise _EndedError
        return given


class CheckPass:
    """What may be asked of the model about one prompt, before it is known what is computed.

    `work` is what that took so far, in tokens: those that the model ran over, times the share of
    its layers. The last of them counts as whole, though only its keys and values are computed.
    """

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        layout: Layout,
        records: Mapping[ModuleRun, KV],
    ) -> None:
        """Nothing is run yet; `records` are the states of the modules that are reused."""
        self._runner = runner
        self._traits = traits
        self._layout = layout
        self._records = records
        self.work = 0.0

    def fresh(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys `[kv_heads, tokens, key_dim]` and values of a layer, as a full prefill has them.

        They are those of every token up to the last one that a module could serve; what comes
        after it changes none of them. Those of modules at the beginning whose states are exact
        are not computed again.
        """
        assert 0 <= layer < len(self._traits.layers)
        ids = self._layout.ids
        stop = max((piece.stop for piece in self._layout.reusable), default=0)
        shapes = self._traits.layers[: layer + 1]
        arena = FirstLayers(shapes, capacity=stop, spare=self._runner.spare)
        first = 0
        for piece in takewhile(self._is_known, self._layout.pieces):
            arena.write(self._states(piece, layer), piece.start)
            first = piece.stop
        if first < stop:
            self._run(torch.tensor([ids[first:stop]]), range(first, stop), arena)
            self.work += (stop - first) * len(shapes) / len(self._traits.layers)
        last = arena.layers[-1]
        return last.keys[0].clone(), last.values[0].clone()

    def _is_known(self, piece: Piece) -> bool:
        return piece.exact and piece.run in self._records

    def _states(self, piece: Piece, layer: int) -> KV:
        """The states of a piece's tokens in the layers up to this one, as views."""
        assert piece.run is not None
        kv = self._records[piece.run].slice(piece.offset, piece.offset + len(piece.ids))
        return KV(kv.keys[: layer + 1], kv.values[: layer + 1], kv.start)

    def _run(self, ids: Tensor, positions: range, arena: FirstLayers) -> None:
        try:
            self._runner.forward(ids, positions, arena, attention=self._traits.attention)
        except _EndedError:
            return
        raise AssertionError("the model computed its logits without these layers' states")
