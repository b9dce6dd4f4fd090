"""KVBoost as a baseline: the same model object, its chunks reused as it reuses them by default."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from promptcache.bench.models import Subject
from promptcache.bench.prompts import UNLIMITED, Asked
from promptcache.bench.rounds import Sample

CHUNKS = 1_000_000
"""So many that it keeps all it has seen, as the other systems of a run do."""


class KVBoostPeer:
    """KVBoost on a model; it tokenises by itself, as the model's tokenizer does."""

    name = "KVBoost"
    packages: Sequence[str] = ("kvboost",)
    remembers = True

    def __init__(self, subject: Subject) -> None:
        from kvboost import KVBoost

        self._engine = KVBoost(
            subject.model,
            subject.tokenizer,
            max_cache_bytes=UNLIMITED,
            max_chunks=CHUNKS,
            device=str(subject.device),
        )

    def remember(self, prompt: Asked) -> None:
        """Serve a prompt, untimed."""
        self._engine.generate(prompt.text, max_new_tokens=1)

    def first_token(self, prompt: Asked) -> Sample:
        """Time a prompt, from its text to its first token."""
        times: list[float] = []
        start = perf_counter()
        done = self._engine.generate(
            prompt.text, max_new_tokens=1, on_token=lambda _: times.append(perf_counter())
        )
        cached = int(done.cached_tokens)
        return Sample(times[0] - start, cached=cached, new=int(done.prompt_tokens) - cached)
