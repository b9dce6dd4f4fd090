"""A request's options are checked before any work, and brought into one form."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from promptcache import NoReuse
from promptcache.errors import OptionError
from promptcache.options import DEFAULT_NEW_TOKENS, RequestOptions


def parse(**options: Any) -> RequestOptions:
    return RequestOptions.parse(options, NoReuse())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"temperature": 0.0, "do_sample": True},
            "temperature=0.0 is not a number above 0; for greedy answers give 0 or do_sample=False",
        ),
        ({"temperature": -1}, "temperature=-1 is not a number above 0"),
        ({"temperature": "hot"}, "temperature='hot' is not a number above 0"),
        ({"temperature": float("nan")}, "temperature=nan is not a number above 0"),
        ({"temperature": True}, "temperature=True is not a number above 0"),
        ({"temperature": 10**400}, "temperature=1000.* is not a number above 0"),
        ({"top_k": -1}, "top_k=-1 is not a whole number from 0"),
        ({"top_k": 1.5}, "top_k=1.5 is not a whole number from 0"),
        ({"top_p": 2.0}, "top_p=2.0 is not a number from 0 to 1"),
        ({"min_p": -0.1}, "min_p=-0.1 is not a number from 0 to 1"),
        ({"typical_p": 0}, "typical_p=0 is not a number above 0, up to 1"),
        ({"epsilon_cutoff": 1}, "epsilon_cutoff=1 is not a number from 0 to below 1"),
        ({"repetition_penalty": 0}, "repetition_penalty=0 is not a number above 0"),
        ({"do_sample": "yes"}, "do_sample='yes' is not True or False"),
        ({"renormalize_logits": 1}, "renormalize_logits=1 is not True or False"),
        ({"min_new_tokens": "3"}, "min_new_tokens='3' is not a whole number from 0"),
        ({"no_repeat_ngram_size": -2}, "no_repeat_ngram_size=-2 is not a whole number from 0"),
        ({"eos_token_id": "x"}, "eos_token_id='x' is not a token id or a list of them"),
        ({"eos_token_id": []}, r"eos_token_id=\[\] is not a token id or a list of them"),
        ({"pad_token_id": -1}, "pad_token_id=-1 is not a token id"),
        ({"suppress_tokens": 3}, "suppress_tokens=3 is not a list of token ids"),
        ({"bad_words_ids": [3]}, r"bad_words_ids=\[3\] is not a list of lists of token ids"),
        ({"bad_words_ids": [[]]}, r"bad_words_ids=\[\[\]\] is not a list of lists"),
        ({"sequence_bias": {3: 1.0}}, "sequence_bias=.* is not a dict from tuples of token ids"),
        ({"sequence_bias": [[[3], "x"]]}, "sequence_bias=.* is not a dict from tuples"),
        ({"exponential_decay_length_penalty": 2}, "=2 is not a pair of a whole number of tokens"),
        ({"stopping_criteria": print}, "is not a list of callables, such as StoppingCriteriaList"),
        ({"stopping_criteria": [3]}, r"stopping_criteria=\[3\] is not a list of callables"),
        ({"logits_processor": print}, "is not a list of callables, such as LogitsProcessorList"),
        ({"streamer": object()}, "streamer=.* is not an object with the methods put and end"),
        ({"seed": 2**70}, r"seed=1180591620717411303424 is not a whole number from -2\*\*63 to"),
        ({"seed": 1.0}, "seed=1.0 is not a whole number"),
        ({"expected": "text"}, "expected='text' is not a list of document texts"),
        ({"expected": 3}, "expected=3 is not a list of document texts"),
        ({"expected": [3]}, r"expected=\[3\] has 3, which is not a text"),
        ({"max_new_tokens": 10**17}, "is not a positive number of tokens up to 1,000,000"),
        ({"max_new_tokens": True}, "max_new_tokens=True is not a positive number of tokens"),
        ({"min_new_tokens": 5, "max_new_tokens": 4}, "min_new_tokens=5 is more than max_new_tok"),
        ({"min_new_tokens": 257}, "min_new_tokens=257 is more than max_new_tokens=256"),
        ({"inputs_embeds": torch.zeros(1, 2, 4)}, "inputs_embeds=tensor.* asks for embeddings as"),
        ({"prompt_lookup_num_tokens": 1}, "prompt_lookup_num_tokens=1 asks for prompt lookup"),
        ({"use_mtp": True}, "use_mtp=True asks for multi-token prediction"),
        ({"top_p": 2.0, "tpo_k": 1}, "unknown generation option 'tpo_k'; did you mean 'top_k'"),
    ],
)
def test_a_wrong_option_is_refused_before_any_work_with_the_valid_values(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message) as refused:
        parse(**options)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 250 or "unknown" in message


def test_options_come_in_the_form_that_transformers_takes() -> None:
    given = parse(
        temperature=2,
        repetition_penalty=2,
        eos_token_id=(2, 3),
        sequence_bias={(5, 6): 1},
        exponential_decay_length_penalty=[3, 2],
        num_beams=1,
        guidance_scale=1.0,
        top_k=None,
        expected=None,
    )
    assert given.expected == ()
    assert given.max_new_tokens == DEFAULT_NEW_TOKENS
    assert given.generation == {
        "do_sample": True,
        "temperature": 2.0,
        "repetition_penalty": 2.0,
        "eos_token_id": [2, 3],
        "sequence_bias": [[[5, 6], 1.0]],
        "exponential_decay_length_penalty": (3, 2.0),
        "top_k": None,
    }
    assert type(given.generation["temperature"]) is float


def test_how_many_tokens_may_come_is_the_callers_default_where_none_is_asked_for() -> None:
    assert RequestOptions.parse({}, NoReuse(), 32).max_new_tokens == 32
    assert RequestOptions.parse({"max_new_tokens": 7}, NoReuse(), 32).max_new_tokens == 7


@pytest.mark.parametrize(
    ("given", "sampled"),
    [
        ({"temperature": 0}, False),
        ({"temperature": 0.7}, True),
        ({"top_p": 0.9}, True),
        ({"top_k": 5, "do_sample": False}, False),
        ({"top_p": None}, None),
        ({}, None),
    ],
)
def test_an_option_that_only_sampling_reads_asks_for_sampling(
    given: dict[str, Any], sampled: bool | None
) -> None:
    assert parse(**given).generation.get("do_sample") is sampled
