"""The limit: what no way of reusing attention states that copies them can be faster than.

One bare copy of the reused states, and the bare forward of the new tokens behind them, with the
fastest attention at hand. Nothing is looked up, moved or chosen.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch

from promptcache.bench.baselines import synchronise
from promptcache.bench.rounds import Sample
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner, Traits

NAME = "limit"


class Limit:
    """States of `cached` tokens in one contiguous cache, and a forward of `new` ones."""

    def __init__(self, runner: ModelRunner, traits: Traits, cached: int, new: int) -> None:
        self._runner = runner
        self.cached, self.new = cached, new
        self._source = Arena(traits.layers, capacity=cached + new)
        self._target = Arena(traits.layers, capacity=cached + new)
        for layer in (*self._source.layers, *self._target.layers):
            layer.keys.normal_()
            layer.values.normal_()
        self._attention = traits.attention
        self._attention = self._fastest((traits.attention, None))

    @property
    def attention(self) -> str:
        """The attention it was found fastest with."""
        return self._attention or "the model's own"

    def measure(self, prompt: Sequence[int]) -> Sample:
        """Time the copy, and the forward of a prompt's last tokens: all the new ones at the end."""
        ids = torch.tensor([list(prompt[-self.new :])])
        positions = range(self.cached, self.cached + self.new)
        device = self._runner.device
        synchronise(device)
        start = perf_counter()
        for theirs, ours in zip(self._source.layers, self._target.layers, strict=True):
            ours.keys[:, :, : self.cached].copy_(theirs.keys[:, :, : self.cached])
            ours.values[:, :, : self.cached].copy_(theirs.values[:, :, : self.cached])
        synchronise(device)
        copied = perf_counter()
        logits = self._runner.forward(ids, positions, self._target, attention=self._attention)
        int(logits[0].argmax())
        done = perf_counter()
        stages = {"copy": copied - start, "forward": done - copied}
        return Sample(done - start, cached=self.cached, new=self.new, stages=stages)

    def _fastest(self, names: Sequence[str | None]) -> str | None:
        times: dict[str | None, float] = {}
        for name in names:
            self._attention = name
            times[name] = min(self.measure([1] * self.new).seconds for _ in range(3))
        return min(times, key=lambda name: times[name])
