"""A tiny random model to measure, of which nothing is kept between tests."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy

import pytest

from promptcache.bench.models import Subject
from promptcache.bench.rounds import threads_set
from support.words import byte_tokenizer
from support.zoo import model


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads of tiny models wait for each other for longer than they compute."""
    with threads_set(1):
        yield


@pytest.fixture
def subject() -> Subject:
    """A copy: benchmarks set the attention of the model that they measure."""
    own = deepcopy(model("llama"))
    own.generation_config.eos_token_id = None
    return Subject("tiny", own, byte_tokenizer())
