"""What many prompts say together: distances of distributions, means, quantiles and intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from torch import Tensor

Z = 1.959964
"""The normal distribution's 97.5 % quantile."""
RESAMPLES = 1000
SEED = 20240513
"""Of the bootstrap, so that the same values have the same interval."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean, and the ends of its 95 % interval."""

    mean: float
    low: float
    high: float


def divergence(full: Tensor, other: Tensor) -> float:
    """KL(full || other) of the distributions that two rows of logits `[vocabulary]` stand for.

    In nats and float64. Where `full` has a token that `other` rules out, it is infinite.
    """
    expected, got = (logits.double().log_softmax(dim=-1) for logits in (full, other))
    possible = expected.isfinite()
    terms = expected.exp()[possible] * (expected - got)[possible]
    return max(float(terms.sum()), 0.0)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), share))


def paired(differences: Sequence[float]) -> Interval:
    """The mean of differences between two scores of the same prompt, each from -1 to 1.

    The interval is Bonett and Price's (2012) for paired proportions: the normal one, after one pair
    that was won and one that was lost are added, so that it has a width where nothing differs. For
    scores between 0 and 1 the same is done. The mean is that of the differences themselves.
    """
    values = np.asarray([*differences, 1.0, -1.0], dtype=np.float64)
    centre, reach = float(values.mean()), Z * float(values.std()) / sqrt(len(values))
    mean = float(np.mean(differences)) if len(differences) else 0.0
    return Interval(mean, max(centre - reach, -1.0), min(centre + reach, 1.0))


def bootstrapped(values: Sequence[float]) -> Interval:
    """The mean of values, with the interval of the percentile bootstrap: for long tails."""
    sample = np.asarray(values, dtype=np.float64)
    size = len(sample)
    drawn = np.random.default_rng(SEED).integers(size, size=(RESAMPLES, size))
    low, high = np.quantile(sample[drawn].mean(axis=1), (0.025, 0.975))
    return Interval(float(sample.mean()), float(low), float(high))


def agreement(chosen: Sequence[int], wanted: Sequence[int]) -> float:
    """The share of steps at which the same token was best."""
    pairs = list(zip(chosen, wanted, strict=True))
    return sum(a == b for a, b in pairs) / len(pairs)
