"""Names and values of the test side are never drawn for training."""

import re

import numpy as np
import pytest

from promptcache.pocket.corpus import Sample, Shape, make_sample
from promptcache.pocket.names import listed
from promptcache.pocket.split import side_of
from promptcache.pocket.values import PHRASES, value

SHAPE = Shape((1, 8), (2, 7), (1, 6), two_documents=0.1)
# What a name is told apart by: invented words, all of which begin with a capital.
FIXED = set(
    listed(
        "The Museum Gallery House School College Academy Garden Park Arboretum Bridge Viaduct "
        "Tower Works Mills Systems Foods Tools Motors Brothers Trading Festival Fair Games"
    )
)


def drawn(side: str) -> list[Sample]:
    rng = np.random.default_rng(3)
    return [make_sample(rng, SHAPE, side) for _ in range(1500)]  # type: ignore[arg-type]


def words(samples: list[Sample]) -> set[str]:
    found = set()
    for sample in samples:
        for document in sample.documents:
            found.update(re.findall(r"\b[A-Z][a-z]+", document.name))
    return found - FIXED


def values(samples: list[Sample]) -> set[str]:
    return {v for s in samples for d in s.documents for v in d.facts.values()}


def test_no_name_of_the_test_is_in_training() -> None:
    train, test = words(drawn("train")), words(drawn("test"))
    assert len(test) > 1000
    assert not train & test
    assert {side_of(word) for word in test} == {"test"}
    assert {side_of(word) for word in train} == {"train"}


def test_no_value_of_the_test_is_in_training() -> None:
    train, test = values(drawn("train")), values(drawn("test"))
    assert len(test) > 2000
    assert not train & test


@pytest.mark.parametrize("kind", [*PHRASES, "year", "time", "count", "euros", "date", "town"])
def test_every_kind_of_value_is_split(kind: str) -> None:
    rng = np.random.default_rng(5)
    train = {value(rng, kind, "train") for _ in range(2000)}  # type: ignore[arg-type]
    test = {value(rng, kind, "test") for _ in range(500)}  # type: ignore[arg-type]
    assert len(test) >= 10
    assert not train & test
