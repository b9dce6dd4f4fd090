"""Cases in turns."""

from __future__ import annotations

import random

import pytest
import torch

from promptcache.bench.rounds import Case, Sample, interleaved, median_stages, threads_set
from promptcache.errors import OptionError


def test_each_round_has_every_case_in_an_order_of_its_own() -> None:
    ran: list[int] = []

    def case(number: int, *, slow: bool = False) -> Case[int]:
        return Case(number, lambda: (ran.append(number), Sample(float(number)))[1], slow)

    cases = [case(number) for number in range(6)] + [case(9, slow=True)]
    found = interleaved(cases, 8, 2, random.Random(0), progress=False)
    assert {key: len(samples) for key, samples in found.items()} == dict.fromkeys(range(6), 8) | {
        9: 2
    }
    fast = [number for number in ran if number != 9]
    rounds = [tuple(fast[start : start + 6]) for start in range(0, len(fast), 6)]
    assert all(sorted(each) == list(range(6)) for each in rounds)
    assert len(set(rounds)) > 4
    assert abs(ran.index(9) - len(ran) + 1 + ran[::-1].index(9)) > 12, "both in one half"


def test_stages_that_a_sample_lacks_count_as_nothing() -> None:
    samples = [Sample(1, stages={"a": 1.0}), Sample(1, stages={"a": 3.0, "b": 4.0}), Sample(1)]
    assert median_stages(samples) == {"a": 1.0, "b": 0.0}


def test_threads_are_set_and_set_back() -> None:
    before = torch.get_num_threads()
    with threads_set(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    with pytest.raises(OptionError, match="threads=0"), threads_set(0):
        pass
