"""What cannot be served is refused with one sentence that says why and what works instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from promptcache import Exact, MemoryStore, Modular, NoReuse, PromptCache, PromptCacheError
from promptcache.clock import Clock
from promptcache.errors import (
    BudgetError,
    ModelError,
    OptionError,
    PromptError,
    UnsupportedModelError,
    kind_of,
)
from support.reference import plain_logits
from support.words import byte_tokenizer
from support.zoo import LINEAR, model

LONG = "The sea is wide and blue, and full of fish. " * 3
QUESTION = [{"role": "user", "content": f"{LONG}What?"}]


@pytest.fixture(scope="module")
def llama() -> PromptCache:
    return PromptCache(model("llama"), byte_tokenizer())


def test_absolute_positions_are_refused_with_the_policy_that_works() -> None:
    with pytest.raises(UnsupportedModelError, match=r"absolute positions.*reuse=Exact\(\)"):
        PromptCache(model("gpt2"), byte_tokenizer())


@pytest.mark.parametrize("family", list(LINEAR))
def test_linear_attention_is_refused_with_the_policy_that_works(family: str) -> None:
    with pytest.raises(UnsupportedModelError, match=r"not keys and values.*reuse=Exact\(\)"):
        PromptCache(model(family), byte_tokenizer())


@pytest.mark.parametrize("family", list(LINEAR))
def test_linear_attention_answers_as_plain_transformers_with_exact(family: str) -> None:
    cache = PromptCache(model(family), byte_tokenizer(), reuse=Exact())
    cache.add_schema('<schema name="s"><user>U<collection name="c"/></user></schema>')
    cache.cache_documents([LONG], schema="s", progress=False)
    reply = cache.generate_messages(QUESTION, max_new_tokens=8, do_sample=False)
    ids = byte_tokenizer().apply_chat_template(
        QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    expected = cache.model.generate(ids, max_new_tokens=8, do_sample=False)
    assert list(reply.token_ids) == expected[0, ids.shape[1] :].tolist()
    assert reply.usage.reused_tokens == 0
    assert "nothing is reused" in reply.trace.warnings[0]


@pytest.mark.parametrize("family", ["gpt2", "llama_dynamic", "phi3_longrope"])
def test_refused_families_run_with_exact_and_give_plain_logits(family: str) -> None:
    cache = PromptCache(model(family), byte_tokenizer(), reuse=Exact())
    cache.cache_documents([LONG], progress=False)
    for _ in range(2):
        segments = cache._prompts.from_messages(QUESTION, cache._shelf.recognise)
        got = cache._pipeline.run(segments, Exact(), Clock(), room=1)
        expected = plain_logits(cache.model, got.layout.ids)
        assert torch.allclose(got.logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("family", ["llama_dynamic", "phi3_longrope"])
def test_scaling_that_changes_with_length_is_refused_past_its_threshold_only(family: str) -> None:
    cache = PromptCache(model(family), byte_tokenizer())
    assert cache.generate_messages([{"role": "user", "content": "Hi"}], max_new_tokens=2).token_ids
    with pytest.raises(UnsupportedModelError, match=r"beyond 64.*rotary scaling.*reuse=Exact\(\)"):
        cache.generate_messages(QUESTION, max_new_tokens=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 4}, "num_beams=4 asks for beam search"),
        ({"num_return_sequences": 2}, "several answers"),
        ({"assistant_model": object()}, "assisted generation"),
        ({"cache_implementation": "static"}, "another cache"),
        ({"temprature": 0.5}, "unknown generation option 'temprature'; did you mean 'temperature'"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is not a positive number"),
        ({"stop": [""]}, "non-empty strings"),
        ({"reuse": "modular"}, "not a reuse policy"),
    ],
)
def test_options_that_are_not_supported_are_refused_by_name(
    llama: PromptCache, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        llama.generate_text("Hello", **options)


def test_a_prompt_that_fills_the_window_is_refused_with_both_lengths(llama: PromptCache) -> None:
    with pytest.raises(PromptError, match=r"has 2000 tokens; the model's window holds 1024"):
        llama.generate_text("x" * 2000)


@pytest.mark.parametrize("prompt", ["", [], [{"role": "user", "content": " "}]])
def test_an_empty_prompt_is_refused(llama: PromptCache, prompt: Any) -> None:
    ask = llama.generate_text if isinstance(prompt, str) else llama.generate_messages
    with pytest.raises(PromptError, match="nothing to generate from"):
        ask(prompt)


@pytest.mark.parametrize("budget", [0, -1, 1.5, True])
def test_a_budget_that_is_no_positive_number_of_bytes_is_refused(budget: Any) -> None:
    with pytest.raises(BudgetError, match="positive number of bytes"):
        MemoryStore(budget)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"content": "Hi"}, "message 1 has no role"),
        ({"role": "user", "content": None}, "content of message 1 is None"),
        ({"role": "user", "content": [{"type": "image_url"}]}, "block of type 'image_url'"),
        ({"role": "user", "content": [{"type": "text"}]}, "type 'text' whose 'text' is no text"),
        ({"role": "user", "content": "\ud800"}, "lone surrogate"),
    ],
)
def test_messages_that_are_not_text_are_refused(
    llama: PromptCache, message: dict[str, Any], expected: str
) -> None:
    with pytest.raises(PromptError, match=expected):
        llama.generate_messages([message])


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"not a model folder: it has no config\.json"):
        PromptCache.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="there is no model folder"):
        PromptCache.from_pretrained(tmp_path / "absent")


def test_a_broken_config_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match="cannot load a model from"):
        PromptCache.from_pretrained(tmp_path)


def test_a_model_in_training_mode_is_refused() -> None:
    fresh = model.__wrapped__("llama").train()
    with pytest.raises(ModelError, match=r"training mode.*model\.eval\(\)"):
        PromptCache(fresh, byte_tokenizer()).generate_text("Hello")


def test_objects_that_are_no_model_or_tokenizer_are_refused() -> None:
    with pytest.raises(ModelError, match="the model is a str"):
        PromptCache("llama", byte_tokenizer())  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="the tokenizer is None"):
        PromptCache(model("llama"), None)  # type: ignore[arg-type]


def test_an_argument_that_is_too_long_is_refused_with_both_lengths(llama: PromptCache) -> None:
    param = '<param name="d" len="3"/>'
    llama.add_schema(f'<schema name="s"><module name="m">In {param}</module></schema>')
    with pytest.raises(PromptError, match=r"argument 'd' of 's\.m'.*has 8 tokens, .* holds 3"):
        llama.generate('<prompt schema="s"><m d="seventy"/>Go</prompt>')


def test_nothing_cached_is_lost_by_an_error(llama: PromptCache) -> None:
    llama.cache_documents([LONG], progress=False)
    llama.generate_messages(QUESTION, max_new_tokens=1)
    before = llama.store.keys()
    assert before
    for wrong in ({"num_beams": 2}, {"reuse": 3}, {"stop": 5}):
        with pytest.raises(PromptCacheError):
            llama.generate_messages(QUESTION, **wrong)
    with pytest.raises(PromptCacheError):
        llama.generate_messages([{"role": "user", "content": LONG * 20}])
    assert sorted(llama.store.keys()) == sorted(before)


def test_every_policy_is_a_value_that_shows_its_name() -> None:
    assert [str(policy) for policy in (Modular(), Exact(), NoReuse())] == [
        "Modular()",
        "Exact()",
        "NoReuse()",
    ]


@pytest.mark.parametrize(
    ("value", "said"),
    [(5, "an int"), ("", "a str"), (None, "None"), (int, "the class int")],
)
def test_what_a_value_is_is_said_with_its_article(value: object, said: str) -> None:
    assert kind_of(value) == said
