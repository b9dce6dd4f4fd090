"""Generation options at work, and those that the model's own generation config asks for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import (
    GenerationConfig,
    InfNanRemoveLogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteriaList,
)
from transformers.utils import logging as transformers_logging

from promptcache import PromptCache
from promptcache.errors import OptionError
from promptcache.model.defaults import config_new_tokens, config_stop_strings, generation_settings
from support.words import byte_tokenizer
from support.zoo import model

PLAIN = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}


class Recorder:
    """A streamer that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def put(self, value: torch.Tensor) -> None:
        self.told.append("put")

    def end(self) -> None:
        self.told.append("end")


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return PromptCache(model.__wrapped__("llama"), byte_tokenizer())


@pytest.fixture
def cache(engine: PromptCache) -> Iterator[PromptCache]:
    """An engine whose model has a generation config that a test may change."""
    before = engine.model.generation_config
    engine.model.generation_config = GenerationConfig(**PLAIN)
    yield engine
    engine.model.generation_config = before


@pytest.fixture
def logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> pytest.LogCaptureFixture:
    """What transformers logs, also what it logs once a process."""
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    transformers_logging.warning_once.cache_clear()
    return caplog


def configured(cache: PromptCache, **settings: Any) -> PreTrainedModel:
    for name, value in settings.items():
        setattr(cache.model.generation_config, name, value)
    return cache.model


def test_every_valid_option_gives_an_answer_without_a_word(
    cache: PromptCache, logged: pytest.LogCaptureFixture
) -> None:
    options: dict[str, Any] = {
        "do_sample": True, "temperature": 2, "top_k": 0, "top_p": 0, "min_p": 0, "typical_p": 1,
        "epsilon_cutoff": 0, "eta_cutoff": 0.1, "repetition_penalty": 2, "no_repeat_ngram_size": 2,
        "encoder_repetition_penalty": 2, "renormalize_logits": True, "min_new_tokens": 3,
        "bad_words_ids": ([5], (6, 7)), "sequence_bias": {(8,): -2}, "suppress_tokens": (9,),
        "exponential_decay_length_penalty": [1, 2], "forced_eos_token_id": 2, "eos_token_id": [2],
        "pad_token_id": 0, "seed": 2**64 - 1, "streamer": Recorder(), "max_new_tokens": 3,
        "logits_processor": LogitsProcessorList([InfNanRemoveLogitsProcessor()]),
        "stopping_criteria": StoppingCriteriaList(),
    }  # fmt: skip
    assert len(cache.generate_text("Hello", **options).token_ids) == 3
    assert options["streamer"].told == ["put"] * 4 + ["end"]
    assert logged.messages == []


def test_greedy_answers_may_have_temperature_zero(cache: PromptCache) -> None:
    configured(cache, do_sample=True, temperature=0.7)
    greedy = cache.generate_text("Hello", do_sample=False, temperature=0, max_new_tokens=4)
    configured(cache, do_sample=None, temperature=None)
    assert greedy.token_ids == cache.generate_text("Hello", max_new_tokens=4).token_ids


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forced_eos_token_id": 288}, "token id 288; .* vocabulary has the ids from 0 to 287"),
        ({"bad_words_ids": [[5, 999]]}, "token id 999; .* vocabulary has the ids from 0 to 287"),
        ({"sequence_bias": {(999,): 1.0}}, "token id 999; .* has the ids from 0 to 287"),
        (
            {"suppress_tokens": [2], "forced_eos_token_id": 2},
            r"transformers refuses the generation options: Every token in `forced_eos_token_id`",
        ),
        (
            {"exponential_decay_length_penalty": (1, 2.0), "eos_token_id": None},
            r"exponential_decay_length_penalty=\(1, 2.0\) needs an eos_token_id",
        ),
    ],
)
def test_an_option_that_is_refused_late_ends_in_a_sentence_and_ends_the_streamer(
    cache: PromptCache, options: dict[str, Any], message: str
) -> None:
    streamer = Recorder()
    with pytest.raises(OptionError, match=message):
        cache.generate_text("Hello", streamer=streamer, **options)
    assert streamer.told == ["put", "end"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_beams": 4}, "num_beams=4 asks for beam search"),
        ({"num_return_sequences": 2}, "num_return_sequences=2 asks for several answers"),
        ({"guidance_scale": 1.5}, "guidance_scale=1.5 asks for classifier-free guidance"),
        ({"prompt_lookup_num_tokens": 3}, "prompt_lookup_num_tokens=3 asks for prompt lookup"),
        ({"force_words_ids": [[1]]}, r"force_words_ids=\[\[1\]\] asks for constrained beams"),
        ({"constraints": ["x"]}, r"constraints=\['x'\] asks for constrained beams"),
        ({"token_healing": True}, "token_healing=True asks for token healing"),
        ({"penalty_alpha": 0.6, "top_k": 4}, "penalty_alpha=0.6 asks for contrastive search"),
        ({"do_sample": True, "temperature": 0.0}, "temperature=0.0 is not a number above 0"),
        ({"repetition_penalty": -1.0}, "repetition_penalty=-1.0 is not a number above 0"),
        ({"eos_token_id": "x"}, "eos_token_id='x' is not a token id"),
        ({"bad_words_ids": [[999]]}, "token id 999; the model's vocabulary"),
    ],
)
def test_what_the_models_own_config_asks_for_is_refused_as_if_it_were_asked_for(
    cache: PromptCache, settings: dict[str, Any], message: str
) -> None:
    configured(cache, **settings)
    with pytest.raises(OptionError, match=rf"^the model's generation config: .*{message}"):
        cache.generate_text("Hello", max_new_tokens=2)


def test_the_config_is_refused_when_it_is_read_not_only_in_a_request(cache: PromptCache) -> None:
    with pytest.raises(OptionError, match=r"token healing.*; set it to None there"):
        generation_settings(configured(cache, token_healing=True))


@pytest.mark.parametrize(
    "settings",
    [
        {"max_length": 5},
        {"max_length": 5, "max_new_tokens": 9},
        {"cache_implementation": "static", "cache_config": {}},
        {"temperature": 0.0, "top_p": 0.9, "top_k": 3},
        {"min_new_tokens": 50, "min_length": 3},
        {"min_length": 500},
        {"output_attentions": True, "return_dict_in_generate": True, "output_scores": True},
        {"early_stopping": True, "length_penalty": 0.5, "is_assistant": True},
        {"eos_token_id": [2, 3], "pad_token_id": None},
        {"eos_token_id": -1, "pad_token_id": -1},
        {"stop_strings": ["x"]},
    ],
)
def test_what_says_nothing_about_an_answer_is_left_out_without_a_word(
    cache: PromptCache, logged: pytest.LogCaptureFixture, settings: dict[str, Any]
) -> None:
    expected = cache.generate_text("Hello", max_new_tokens=3).token_ids
    before = configured(cache, **settings).generation_config.to_dict()
    assert cache.generate_text("Hello", max_new_tokens=3).token_ids == expected
    assert cache.model.generation_config.to_dict() == before
    assert logged.messages == []


def test_the_configs_settings_hold_where_a_request_says_nothing(cache: PromptCache) -> None:
    asked = {"do_sample": True, "temperature": 1.7, "top_k": 20, "repetition_penalty": 1.5}
    sampled = cache.generate_text("Hello", max_new_tokens=8, seed=3, **asked).token_ids
    configured(cache, **asked)
    assert cache.generate_text("Hello", max_new_tokens=8, seed=3).token_ids == sampled
    greedy = cache.generate_text("Hello", max_new_tokens=8, do_sample=False).token_ids
    assert greedy != sampled


def test_stop_strings_and_length_of_the_config_can_be_read(cache: PromptCache) -> None:
    assert config_stop_strings(cache.model) == ()
    assert config_new_tokens(cache.model) is None
    configured(cache, stop_strings="one", max_new_tokens=32)
    assert config_stop_strings(cache.model) == ("one",)
    assert config_new_tokens(cache.model) == 32
    configured(cache, stop_strings=["one", ""], max_new_tokens=0)
    with pytest.raises(OptionError, match=r"config: stop_strings=\['one', ''\] is not a string"):
        config_stop_strings(cache.model)
    with pytest.raises(OptionError, match="config: max_new_tokens=0 is not a positive number"):
        config_new_tokens(cache.model)
