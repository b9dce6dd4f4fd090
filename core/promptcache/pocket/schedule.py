"""When a run does what: its plan, where it stands, the learning rate and the stage.

This file knows nothing about models.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.pocket.curriculum import REVISION, STAGES
from promptcache.pocket.data import Stage


@dataclass(frozen=True, slots=True)
class Plan:
    """All that decides a run; the rate is constant, then falls linearly over the last tokens."""

    tokens: int = 56_000_000
    decay_share: float = 0.34
    rate: float = 8e-4
    embedding_rate: float = 2e-3
    norm_rate: float = 5e-4
    floor: float = 0.02
    warm_up: int = 150
    weight_decay: float = 0.2
    batch_tokens: int = 6144
    stages: tuple[int, ...] = (5_000_000, 12_000_000, 20_000_000)  # at the latest; else when ...
    skill: float = 0.85  # ... this share of the answers is right, word for word
    seed: int = 7
    hidden: int = 256
    layers: int = 5
    feed_forward: int = 640
    curriculum: tuple[Stage, ...] = STAGES
    before: int = 0  # tokens that the weights were trained on which it begins from

    @property
    def decay_tokens(self) -> float:
        """Tokens over which the rate falls, in the last stage."""
        return self.tokens * self.decay_share


@dataclass(frozen=True, slots=True)
class Position:
    """Where a run stands."""

    step: int = 0
    tokens: int = 0
    pool: int = 0
    batch: int = 0
    stage: int = 0
    skill: float = 0.0  # running mean of the share of answers that are right, in this stage


def rate_at(plan: Plan, position: Position) -> float:
    """Return the learning rate as a share of its peak."""
    left = max(0.0, (plan.tokens - position.tokens) / plan.decay_tokens)
    return min(1.0, (position.step + 1) / plan.warm_up) * max(plan.floor, min(1.0, left))


def next_stage(plan: Plan, position: Position) -> int:
    """Return the stage for the next pool: one further once its skill or its time has come.

    The last one has a time only: when the rate begins to fall.
    """
    last = len(plan.curriculum) - 1
    if position.tokens >= plan.tokens - plan.decay_tokens:
        return last
    late = sum(position.tokens >= start for start in plan.stages)
    ready = position.stage + (position.skill >= plan.skill)
    return min(max(late, ready), last - 1)


DEFAULT = Plan()
AGAIN = Plan(
    tokens=8_000_000, decay_share=1.0, rate=4e-4, embedding_rate=1e-3, norm_rate=2.5e-4,
    stages=(), seed=8, curriculum=REVISION, before=DEFAULT.tokens,
)  # fmt: skip
"""What follows the default plan, from the weights that it made."""
