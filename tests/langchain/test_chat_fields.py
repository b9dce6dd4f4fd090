"""ChatPromptCache: the fields and settings that users of chat models look for, one by one."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.rate_limiters import BaseRateLimiter

from langchain_promptcache import ChatPromptCache
from promptcache import PromptCache
from promptcache.errors import OptionError, PromptError
from support.rag import DOCUMENTS, PROMPT, tiny_engine

TEXT = DOCUMENTS[0].page_content


class Turnstile(BaseRateLimiter):
    """Counts who passes."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self, *, blocking: bool = True) -> bool:
        self.passed += 1
        return True

    async def aacquire(self, *, blocking: bool = True) -> bool:
        return self.acquire(blocking=blocking)


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


async def test_every_request_passes_the_rate_limiter_once(engine: PromptCache) -> None:
    limiter = Turnstile()
    llm = ChatPromptCache(engine=engine, max_tokens=1, rate_limiter=limiter)
    llm.invoke("Hello")
    list(llm.stream("Hello"))
    await llm.ainvoke("Hello")
    async for _ in llm.astream("Hello"):
        pass
    assert limiter.passed == 4
    llm.batch(["a", "b"])
    assert limiter.passed == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"top_p": 0.05},
        {"top_k": 1},
        {"repetition_penalty": 50.0, "temperature": 0},
        {"temperature": 0},
        {"seed": 8},
    ],
)
def test_each_setting_of_sampling_changes_answers_set_here_or_in_a_call(
    settings: dict[str, Any], engine: PromptCache
) -> None:
    base = {"max_tokens": 24, "temperature": 2.0, "seed": 7}
    llm = ChatPromptCache(engine=engine, **base)
    with_setting = ChatPromptCache(engine=engine, **{**base, **settings}).invoke("Hello").text
    assert with_setting == llm.invoke("Hello", **settings).text
    if "repetition_penalty" in settings:
        llm = ChatPromptCache(engine=engine, **{**base, "temperature": 0})
    assert with_setting != llm.invoke("Hello").text


@pytest.mark.parametrize("name", ["max_tokens", "max_new_tokens"])
def test_the_length_of_an_answer_is_limited_under_either_name(
    name: str, engine: PromptCache
) -> None:
    for message in (
        ChatPromptCache(engine=engine, **{name: 3}).invoke("Hello"),
        ChatPromptCache(engine=engine).invoke("Hello", **{name: 3}),
    ):
        assert message.usage_metadata["output_tokens"] == 3
        assert message.response_metadata["finish_reason"] == "length"


def test_a_miss_is_a_span_of_its_own_and_gone_the_next_time() -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=1)
    llm.cache_documents(DOCUMENTS, progress=False)
    prompt = PROMPT.invoke({"context": TEXT, "input": "?"})
    found = []
    for _ in range(2):
        spans = llm.invoke(prompt).response_metadata["provenance"]
        (span,) = [span for span in spans if span["text"] == TEXT]
        found.append((span["provenance"], span["tier"]))
    assert found == [("encoded", "encoded"), ("exact", "memory")]


def test_a_document_that_was_not_reused_has_the_reason_in_its_span() -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=1)
    llm.cache_documents(DOCUMENTS, progress=False)
    twice = PROMPT.invoke({"context": f"{TEXT}\n\n{TEXT}", "input": "?"})
    spans = llm.invoke(twice).response_metadata["provenance"]
    notes = [span["note"] for span in spans if span["text"].strip() == TEXT]
    assert "missed" in notes[0]
    assert "a module is reused once per prompt" in notes[1]


def test_langchains_own_counter_adds_usage_up_by_model(engine: PromptCache) -> None:
    counter = UsageMetadataCallbackHandler()
    llm = ChatPromptCache(engine=engine, max_tokens=4)
    messages = llm.batch(["Hello", "How are you?"], config={"callbacks": [counter]})
    counted = counter.usage_metadata["tiny"]
    assert counted["output_tokens"] == 8
    assert counted["input_tokens"] == sum(m.usage_metadata["input_tokens"] for m in messages)


async def test_a_prompt_of_a_batch_that_fails_is_no_other_prompts_failure(
    engine: PromptCache,
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=4, temperature=0)
    prompts = ["Hello.", "word " * 300]
    for answers in (
        llm.batch(prompts, return_exceptions=True),
        await llm.abatch(prompts, return_exceptions=True),
    ):
        assert answers[0].text == llm.invoke("Hello.").text
        assert isinstance(answers[1], PromptError)


async def test_answers_that_are_made_at_the_same_time_are_those_of_one_by_one(
    engine: PromptCache,
) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=8, temperature=1.5, seed=3)
    prompts = [f"Prompt {n}" for n in range(4)]
    expected = [llm.invoke(prompt).text for prompt in prompts]
    together = await asyncio.gather(*(llm.ainvoke(prompt) for prompt in prompts))
    assert [message.text for message in together] == expected
    assert [message.text for message in llm.batch(prompts)] == expected


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"temperature": -1.0}, "temperature=-1.0"),
        ({"top_k": -2}, "top_k=-2"),
        ({"generation_kwargs": {"num_beams": 4}}, "num_beams"),
        ({"pipeline_kwargs": {"no_such_option": 1}}, "no_such_option"),
        ({"seed": "seven"}, "seed='seven'"),
    ],
)
def test_a_wrong_option_of_generation_is_refused_before_anything_is_loaded(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        ChatPromptCache(model="/no/such/folder", **given)
