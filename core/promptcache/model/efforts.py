"""What encoding takes with one model on this machine: measured as it happens, in seconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from promptcache.kv import KV
from promptcache.model.runner import ModelRunner, Traits
from promptcache.store import Effort, Rate


class Efforts:
    """Seconds per token that is run through the model, by a running estimate."""

    def __init__(self, runner: ModelRunner, traits: Traits) -> None:
        self._runner = runner
        self._traits = traits
        self._rate = Rate()

    def timed(self, encode: Callable[[], list[KV]], times: int) -> list[KV]:
        """What `encode` gives, of tokens that are run `times` times each, with what each cost.

        Waiting for the model counts: whoever encodes has to.
        """
        begun = time.perf_counter()
        states = encode()
        if self._runner.device.type == "cuda":
            torch.cuda.synchronize(self._runner.device)
        tokens = sum(kv.tokens for kv in states)
        if not tokens:
            return states
        seconds = time.perf_counter() - begun
        self._rate.add(seconds, tokens * times)
        return [replace(kv, cost=seconds * kv.tokens / tokens) for kv in states]

    def of(self, tokens: int, times: int) -> Effort | None:
        """What so many tokens will take, each run `times` times; None where too little is known."""
        seconds = self._rate.seconds(tokens * times)
        if seconds is None:
            return None
        return Effort(seconds, tokens * self._traits.token_bytes)
