"""Engines that listen: what they hear is registered, and what fails is nobody else's failure."""

from __future__ import annotations

import gc

import pytest

from promptcache.observing import Listeners
from support.rag import tiny_engine

TEXTS = ["The lighthouse of Arven is 31 metres tall.", "Mira Tollen plays the viola in Ostmark."]


def test_each_engine_that_listens_gets_each_text_once_and_one_that_is_closed_none() -> None:
    listeners, first, second = Listeners(), tiny_engine(), tiny_engine()
    assert not listeners
    with listeners.add(first), listeners.add(first), listeners.add(second):
        listeners.hear(TEXTS, str.upper)
    listeners.hear(TEXTS, str)
    for engine in (first, second):
        assert engine.forget_documents(TEXTS) == 0
        assert engine.forget_documents(map(str.upper, TEXTS)) == len(TEXTS)
    assert not listeners


def test_what_has_no_text_is_logged_and_the_rest_is_registered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    listeners, engine = Listeners(), tiny_engine()
    with listeners.add(engine):
        listeners.hear([TEXTS[0], 7, TEXTS[1]], lambda text: text.strip())  # type: ignore[union-attr]
    assert [m for m in caplog.messages if m == "a retrieved document was not registered: 7"]
    assert engine.forget_documents(TEXTS) == len(TEXTS)


def test_an_observation_says_whose_it_is_and_whether_it_is_open() -> None:
    listeners, engine = Listeners(), tiny_engine()
    observation, other = listeners.add(engine), listeners.add(engine)
    assert repr(observation) == "<Observation for 'tiny': open>"
    other.close()
    assert repr(other) == "<Observation for 'tiny': closed>"
    del engine
    gc.collect()
    assert repr(observation) == "<Observation for 'tiny': the engine is gone>"
