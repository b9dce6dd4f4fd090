"""PromptCacheLLM: text in, text out, with the settings and the accounts of the chat model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import LLMResult
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField

from langchain_promptcache import PMLPromptTemplate, PromptCacheLLM
from promptcache import NoReuse, PromptCache
from promptcache.errors import OptionError, PromptCacheError, PromptError
from support.rag import DOCUMENTS, PROMPT, tiny_engine

PROMPTS = ["Hello.", "How are you?", "What is a lighthouse?", "And a mill?"]
PLAIN = PromptTemplate.from_template("Use these documents.\n\n{context}\n\nQuestion: {input}")


class Listener(BaseCallbackHandler):
    """Hears tokens and the end of an answer."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.result: LLMResult | None = None

    def on_llm_new_token(self, token: str, **_: Any) -> None:
        self.tokens.append(token)

    def on_llm_end(self, response: LLMResult, **_: Any) -> None:
        self.result = response

    @property
    def info(self) -> dict[str, Any]:
        assert self.result is not None
        return self.result.generations[0][0].generation_info or {}


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture
def llm(engine: PromptCache) -> PromptCacheLLM:
    return PromptCacheLLM(engine=engine, max_tokens=16, temperature=0)


def text(*order: int, prompt: Any = PLAIN) -> Any:
    documents = "\n\n".join(DOCUMENTS[i].page_content for i in order)
    return prompt.invoke({"context": documents, "input": "How tall?"})


def test_without_reuse_it_continues_the_text_as_plain_transformers_do(llm: PromptCacheLLM) -> None:
    llm.cache_documents(DOCUMENTS, PLAIN, progress=False)
    given = text(0, 1).to_string()
    ids = llm.engine.tokenizer(given, return_tensors="pt").input_ids
    out = llm.engine.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=16, do_sample=False
    )
    plain = llm.engine.tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True)
    result = llm.generate([given], reuse=NoReuse())
    assert result.generations[0][0].text == plain
    assert result.llm_output["token_usage"]["prompt_tokens"] == ids.shape[1]


@pytest.mark.parametrize("prompt", [PLAIN, PROMPT])
def test_documents_are_reused_in_any_order_from_the_first_prompt_on(prompt: Any) -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), max_tokens=1)
    assert llm.cache_documents(DOCUMENTS, prompt, progress=False).encoded == len(DOCUMENTS)
    listener = Listener()
    llm.invoke(text(2, 0, 1, prompt=prompt), config={"callbacks": [listener]})
    details = listener.info["usage_metadata"]["input_token_details"]
    assert details["cache_creation"] == 0
    assert details["cache_read"] >= sum(llm.get_num_tokens(d.page_content) for d in DOCUMENTS)


@pytest.mark.parametrize("front", ["", "Be brief.\n"])
def test_documents_of_a_template_that_asks_first_are_reused_by_every_question(front: str) -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), max_tokens=1)
    asking = PromptTemplate.from_template(front + "Question: {input}\n\n{context}\n\nAnswer:")
    assert llm.cache_documents(DOCUMENTS, asking, progress=False).encoded == len(DOCUMENTS)
    texts = [document.page_content.strip() for document in DOCUMENTS]
    reused, documents = sum(map(llm.get_num_tokens, texts)), "\n\n".join(texts)
    for question in ("How tall?", "When?", "By whom?", "Where is it?"):
        listener = Listener()
        asked = asking.invoke({"input": question, "context": documents})
        llm.invoke(asked, config={"callbacks": [listener]})
        details = listener.info["usage_metadata"]["input_token_details"]
        assert details["cache_creation"] == 0
        assert details["cache_read"] >= reused


def test_an_answer_says_how_it_came_about(llm: PromptCacheLLM) -> None:
    listener = Listener()
    llm.invoke("Hello", config={"callbacks": [listener]}, expected=["a document not there"])
    info = listener.info
    assert info["model_name"] == "tiny"
    assert info["finish_reason"] == "length"
    assert 0 < info["ttft"] < 60
    assert [span["provenance"] for span in info["provenance"]] == ["new"]
    assert "it is not registered" in info["notes"][0]
    assert info["usage_metadata"]["output_tokens"] == 16
    assert listener.result.llm_output == {
        "model_name": "tiny",
        "token_usage": {"prompt_tokens": 5, "completion_tokens": 16, "total_tokens": 21},
    }


async def test_streamed_awaited_and_batched_answers_are_the_same(llm: PromptCacheLLM) -> None:
    expected = [llm.invoke(prompt) for prompt in PROMPTS]
    pieces = list(llm.stream(PROMPTS[0]))
    assert len(pieces) > 3
    assert "".join(pieces) == expected[0]
    assert "".join([piece async for piece in llm.astream(PROMPTS[0])]) == expected[0]
    assert await llm.ainvoke(PROMPTS[0]) == expected[0]
    assert llm.batch(PROMPTS) == await llm.abatch(PROMPTS) == expected
    assert [g[0].text for g in llm.generate(PROMPTS).generations] == expected
    assert [g[0].text for g in (await llm.agenerate(PROMPTS)).generations] == expected


def test_several_prompts_at_once_count_all_their_tokens(llm: PromptCacheLLM) -> None:
    usage = llm.generate(PROMPTS, max_tokens=2).llm_output["token_usage"]
    assert usage["prompt_tokens"] == sum(map(len, PROMPTS))
    assert usage["completion_tokens"] == 2 * len(PROMPTS)


async def test_a_prompt_of_a_batch_that_fails_is_no_other_prompts_failure(
    llm: PromptCacheLLM,
) -> None:
    prompts = ["Hello.", "word " * 300]
    for answers in (
        llm.batch(prompts, return_exceptions=True),
        await llm.abatch(prompts, return_exceptions=True),
    ):
        assert answers[0] == llm.invoke("Hello.")
        assert isinstance(answers[1], PromptError)
    with pytest.raises(PromptError, match="the model's window holds 1024"):
        llm.batch(prompts)


async def test_listeners_hear_tokens_of_streams_and_where_streaming_is_set(
    llm: PromptCacheLLM,
) -> None:
    whole = llm.invoke("Hello")
    heard = [Listener() for _ in range(5)]
    configs = [{"callbacks": [listener]} for listener in heard]
    list(llm.stream("Hello", config=configs[0]))
    async for _ in llm.astream("Hello", config=configs[1]):
        pass
    streaming = llm.model_copy(update={"streaming": True})
    streaming.invoke("Hello", config=configs[2])
    await streaming.ainvoke("Hello", config=configs[3])
    llm.invoke("Hello", config=configs[4])
    assert ["".join(listener.tokens) for listener in heard] == [whole] * 4 + [""]
    assert all(listener.info["usage_metadata"]["output_tokens"] == 16 for listener in heard)


async def test_the_event_loop_is_free_while_an_answer_is_made(llm: PromptCacheLLM) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    async for _ in llm.astream("Hello"):
        pass
    in_stream = turns
    await llm.ainvoke("Hello")
    counting.cancel()
    assert in_stream > 20
    assert turns - in_stream > 20


def test_an_answer_ends_before_a_stop_string(llm: PromptCacheLLM) -> None:
    answer = llm.invoke("Hello")
    stop = answer[5]
    expected = answer[: answer.index(stop)]
    assert llm.invoke("Hello", stop=[stop]) == expected
    assert llm.bind(stop=[stop]).invoke("Hello") == expected
    assert "".join(llm.stream("Hello", stop=[stop])) == expected
    assert llm.model_copy(update={"stop": stop}).invoke("Hello") == expected


def test_settings_can_be_given_in_a_call_and_configured(llm: PromptCacheLLM) -> None:
    sampled = llm.bind(temperature=1.5, top_k=50)
    assert sampled.invoke("Hello", seed=3) == sampled.invoke("Hello", seed=3)
    assert sampled.invoke("Hello", seed=3) != sampled.invoke("Hello", seed=4)
    choice = llm.configurable_fields(max_tokens=ConfigurableField("length"))
    short = choice.invoke("Hello", config={"configurable": {"length": 2}})
    assert short == llm.invoke("Hello", max_new_tokens=2)
    assert llm.invoke("Hello").startswith(short)


def test_it_stands_in_a_chain_and_takes_messages_as_text(llm: PromptCacheLLM) -> None:
    chain = PLAIN | llm | StrOutputParser()
    asked = {"context": "Nothing.", "input": "Why?"}
    assert "".join(chain.stream(asked)) == chain.invoke(asked)
    assert llm.invoke([HumanMessage("Hello")]) == llm.invoke("Human: Hello")


def test_tokens_are_counted_with_the_models_own_tokenizer(llm: PromptCacheLLM) -> None:
    assert llm.get_num_tokens("Hello </s>") == len(b"Hello </s>")
    counter = llm.model_copy(update={"custom_get_token_ids": lambda text: [1]})
    assert counter.get_num_tokens("Hello") == 1


def test_settings_that_change_answers_are_told_to_caches_and_traces(llm: PromptCacheLLM) -> None:
    assert llm._llm_type == llm.asdict()["_type"] == "promptcache"
    assert llm.model_copy(update={"temperature": 0.5}).asdict() != llm.asdict()
    params = llm.model_copy(update={"stop": "x"})._get_ls_params()
    assert params["ls_provider"] == "promptcache"
    assert params["ls_model_type"] == "llm"
    assert params["ls_model_name"] == "tiny"
    assert (params["ls_stop"], params["ls_max_tokens"], params["ls_temperature"]) == (["x"], 16, 0)


@pytest.fixture
def llm_cache() -> Iterator[InMemoryCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def test_langchains_cache_tells_models_apart_by_what_their_answers_depend_on(
    engine: PromptCache, llm_cache: InMemoryCache
) -> None:
    one = PromptCacheLLM(engine=engine, max_tokens=2)
    others = [PromptCacheLLM(engine=engine, max_tokens=2, seed=1), one.model_copy()]
    assert len({llm.invoke("Hello") for llm in (one, *others)}) == 1
    assert len(llm_cache._cache) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_token": 3}, "unknown parameter 'max_token'; did you mean 'max_tokens'"),
        ({"engine": "pocket"}, "engine='pocket' is not a PromptCache"),
        ({"top_k": "many"}, "top_k='many' is not a whole number"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=said):
        PromptCacheLLM(**settings)


async def test_what_cannot_be_served_is_one_sentence(llm: PromptCacheLLM) -> None:
    for options, said in (
        ({"num_beams": 4}, "num_beams=4 asks for beam search"),
        ({"tools": [{"name": "look"}]}, "unknown generation option 'tools'"),
    ):
        with pytest.raises(OptionError, match=said):
            llm.invoke("Hello", **options)
        with pytest.raises(OptionError, match=said):
            await llm.ainvoke("Hello", **options)
    with pytest.raises(PromptCacheError, match="empty"):
        llm.invoke("")


def test_documents_that_a_prompt_carries_are_reused_from_its_second_text_on() -> None:
    llm = PromptCacheLLM(engine=tiny_engine(conversations=False), max_tokens=2, temperature=0)
    chain = PMLPromptTemplate.from_prompt(PLAIN) | llm
    read = []
    for documents in (DOCUMENTS, DOCUMENTS[::-1]):
        listener = Listener()
        chain.invoke({"context": documents, "input": "How tall?"}, {"callbacks": [listener]})
        read.append(listener.info["usage_metadata"]["input_token_details"]["cache_read"])
    assert read[1] >= sum(len(llm.get_token_ids(d.page_content)) for d in DOCUMENTS)
