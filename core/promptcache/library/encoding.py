"""Runs of one context, encoded together: as they are, or as expected states; timed, and rounded."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from promptcache.kv import KV
from promptcache.layout import ModuleRun
from promptcache.model.efforts import Efforts
from promptcache.model.encode import encode
from promptcache.model.expected import encode_expected, sensitivity
from promptcache.model.runner import ModelRunner, Traits
from promptcache.store import Effort
from promptcache.store.compression import rounded


class Encoder:
    """Encodes modules for the store of one engine. `compression` is "" for none."""

    def __init__(self, runner: ModelRunner, traits: Traits, compression: str) -> None:
        self._runner = runner
        self._traits = traits
        self._compression = compression
        self._efforts = Efforts(runner, traits)

    def states(self, runs: Sequence[ModuleRun], before: KV | None, slots: int) -> list[KV]:
        """The states of runs that have one context, `before` being its own, as they are kept.

        `slots` is how many one forward goes over (see `encode`).
        """
        rows, decoys = [run.ids for run in runs], runs[0].context.decoys

        def encoded() -> list[KV]:
            if decoys:
                return encode_expected(self._runner, self._traits, rows, before, decoys, slots)
            return encode(self._runner, self._traits, rows, before, slots)

        timed = self._efforts.timed(encoded, _times(runs[0]))
        return [rounded(kv, self._compression) for kv in timed]

    def nbytes(self, run: ModuleRun) -> int:
        """The bytes that the states of this run will have, before any are compressed."""
        return len(run.ids) * self._traits.token_bytes

    def effort(self, run: ModuleRun) -> Effort | None:
        """What encoding this run would take, as far as that is known."""
        return self._efforts.of(len(run.ids), _times(run))

    def sensitivity(
        self, run: ModuleRun, kv: KV, before: KV | None, decoy: Sequence[int]
    ) -> Tensor:
        """How much each token's states change behind `decoy`, token ids: `[tokens]`."""
        [other] = encode_expected(self._runner, self._traits, [run.ids], before, [decoy])
        return sensitivity(kv, other)


def _times(run: ModuleRun) -> int:
    """How many times a run's tokens are run through the model to encode it."""
    return len(run.context.decoys) or 1
