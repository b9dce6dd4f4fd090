"""Cases that are measured in turns: all of a round's, in another order each round.

So a machine that is busy for a while is busy for all of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
from tqdm.auto import tqdm

from promptcache.bench.rows import Spread
from promptcache.errors import OptionError

Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement: seconds in all and by stage, and the prompt's tokens by how they came."""

    seconds: float
    cached: int = 0
    new: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Case(Generic[Key]):
    """Something to measure. A `slow` one is measured in some of the rounds only."""

    key: Key
    run: Callable[[], Sample]
    slow: bool = False


def interleaved(
    cases: Sequence[Case[Key]],
    repeats: int,
    slow_repeats: int,
    rng: random.Random,
    *,
    label: str = "",
    progress: bool = True,
) -> dict[Key, list[Sample]]:
    """The samples of every case that ran, `slow_repeats` of the slow ones, over all rounds."""
    rounds = [list(_in_round(cases, number, repeats, slow_repeats)) for number in range(repeats)]
    found: dict[Key, list[Sample]] = {}
    total = sum(map(len, rounds))
    with tqdm(total=total, unit="run", desc=label or None, disable=not progress) as bar:
        for running in rounds:
            for case in rng.sample(running, len(running)):
                found.setdefault(case.key, []).append(case.run())
                bar.update()
    return found


def _in_round(
    cases: Sequence[Case[Key]], number: int, repeats: int, slow_repeats: int
) -> Iterator[Case[Key]]:
    """The cases of one round; slow ones are spread evenly over the rounds."""
    slow = number * slow_repeats // repeats < (number + 1) * slow_repeats // repeats
    return (case for case in cases if slow or not case.slow)


def median(values: Sequence[int]) -> int:
    """The median of some counts."""
    return round(Spread.of(values).median)


def median_stages(samples: Sequence[Sample]) -> dict[str, float]:
    """The median of every stage, 0 where a sample lacks it."""
    names = dict.fromkeys(name for sample in samples for name in sample.stages)
    return {
        name: Spread.of([sample.stages.get(name, 0.0) for sample in samples]).median
        for name in names
    }


@contextmanager
def threads_set(count: int) -> Iterator[None]:
    """Let torch compute with so many threads inside the block.

    Raises OptionError for a count that is not positive.
    """
    check_count("threads", count)
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def check_count(name: str, value: int, least: int = 1) -> None:
    """Raise OptionError for a number that is less than the least one that makes sense."""
    if value < least:
        raise OptionError(f"{name}={value} is not valid; expected {least} or more")
