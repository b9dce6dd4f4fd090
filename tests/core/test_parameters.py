"""Parameters of other classes: their names for ours, and what goes together."""

from __future__ import annotations

import logging

import pytest

from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS
from promptcache.parameters import (
    OF_FROM_PRETRAINED,
    check_engine,
    options_of_request,
    refuse_unknown,
    with_our_names,
)
from support.rag import tiny_engine

ALIASES = {"max_new_tokens": "max_tokens"}
ELSEWHERE = {"options": OPTIONS, "loading": OF_FROM_PRETRAINED}


def test_what_is_given_under_another_name_comes_under_ours() -> None:
    assert with_our_names({"max_new_tokens": 3, "seed": 1}, ALIASES) == {"max_tokens": 3, "seed": 1}


def test_one_thing_under_two_names_is_refused() -> None:
    with pytest.raises(OptionError, match="max_new_tokens and max_tokens are the same"):
        with_our_names({"max_new_tokens": 3, "max_tokens": 3}, ALIASES)


def test_what_only_a_hosted_model_takes_is_left_out_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING, logger="promptcache"):
        assert with_our_names({"api_key": "secret", "seed": 1}, {}) == {"seed": 1}
    assert "api_key has no effect" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("max_new_token", "unknown parameter 'max_new_token'; did you mean 'max_new_tokens'?"),
        ("do_sample", "unknown parameter 'do_sample'; give options={'do_sample': ...}"),
        ("cache_dir", "unknown parameter 'cache_dir'; give loading={'cache_dir': ...}"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest_or_where_it_belongs(
    name: str, said: str
) -> None:
    refuse_unknown(["max_tokens"], ["max_tokens", "seed"], ALIASES, ELSEWHERE)
    with pytest.raises(OptionError) as refused:
        refuse_unknown(["seed", name], ["max_tokens", "seed"], ALIASES, ELSEWHERE)
    assert said in str(refused.value)


def test_a_call_stands_above_what_is_set_and_that_above_the_other_options() -> None:
    aliases = {"max_tokens": "max_new_tokens"}
    others = {"max_tokens": 1, "top_k": 1, "min_p": 0.1}
    settings = {"max_new_tokens": 2, "top_k": None, "seed": 2}
    assert options_of_request(others, settings, {"max_tokens": 3, "seed": None}, aliases) == {
        "max_new_tokens": 3,
        "top_k": 1,
        "min_p": 0.1,
    }


def test_what_cannot_stand_beside_an_engine_is_refused() -> None:
    engine = tiny_engine()
    for name in (None, "tiny"):
        check_engine(engine, name, (), called="model")
    with pytest.raises(OptionError, match="model='other' was given with an engine that serves 'ti"):
        check_engine(engine, "other", (), called="model")
    with pytest.raises(OptionError, match="dtype= has no effect on an engine that is loaded alr"):
        check_engine(engine, None, ["dtype"], called="model")
    with pytest.raises(OptionError, match="engine='tiny' is not a PromptCache"):
        check_engine("tiny", None, (), called="model")
