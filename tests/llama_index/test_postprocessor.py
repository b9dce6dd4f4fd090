"""PromptCachePostprocessor: nodes pass through, and are known to the engine afterwards."""

from __future__ import annotations

import asyncio
from threading import get_ident

import pytest
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import NodeWithScore

from llama_index_promptcache import PromptCacheLLM, PromptCachePostprocessor
from promptcache.errors import OptionError, PromptError, TemplateError
from support.llama import NODES, QUESTION, TEXTS, Shelf, scored, tiny_llm
from support.reuse import shares_reused

PROMPT = PromptTemplate("Use this.\n\n{context_str}\n\nQuestion: {query_str}\n")


@pytest.fixture(params=[None, False], ids=["chat model", "text model"])
def llm(request: pytest.FixtureRequest) -> PromptCacheLLM:
    return tiny_llm(is_chat_model=request.param)


def test_nodes_come_out_as_they_went_in_and_are_registered(llm: PromptCacheLLM) -> None:
    nodes = scored(NODES[::-1])
    before = [node.model_copy(deep=True) for node in nodes]
    out = PromptCachePostprocessor(llm).postprocess_nodes(nodes, query_str=QUESTION)
    assert [id(node) for node in out] == [id(node) for node in nodes]
    assert before == nodes
    assert llm.engine.store.keys() == []
    assert llm.engine.forget_documents(TEXTS) == len(TEXTS)


def test_with_a_prompt_they_are_encoded_after_what_it_has_in_front_of_them(
    llm: PromptCacheLLM,
) -> None:
    PromptCachePostprocessor(llm, PROMPT).postprocess_nodes(scored(NODES))
    assert llm.engine.store.keys() != []
    assert llm.cache_documents(NODES, PROMPT, progress=False).encoded == 0


def engine_of(llm: PromptCacheLLM, postprocessor: PromptCachePostprocessor) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(
        Shelf(NODES), llm=llm, text_qa_template=PROMPT, node_postprocessors=[postprocessor]
    )


@pytest.mark.parametrize(("prompt", "shares"), [(None, [0, 1]), (PROMPT, [1, 1])])
def test_a_query_engine_reuses_what_passed(
    llm: PromptCacheLLM, prompt: PromptTemplate | None, shares: list[float]
) -> None:
    engine = engine_of(llm, PromptCachePostprocessor(llm, prompt))
    with llm.engine.recording() as replies:
        for question in ("How tall?", "Who plays?"):
            engine.query(question)
    assert shares_reused(replies, TEXTS, llm.engine) == shares


async def test_the_event_loop_is_free_while_nodes_are_encoded(
    llm: PromptCacheLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, reached, threads = asyncio.get_running_loop(), asyncio.Event(), []
    cache = llm.engine.cache_documents

    def waits(*args: object, **kwargs: object) -> object:
        threads.append(get_ident())
        asyncio.run_coroutine_threadsafe(seen(), loop).result(10)
        return cache(*args, **kwargs)  # type: ignore[arg-type]

    async def seen() -> None:
        reached.set()

    postprocessor = PromptCachePostprocessor(llm, PROMPT)
    monkeypatch.setattr(llm.engine, "cache_documents", waits)
    nodes = scored(NODES)
    assert await postprocessor.apostprocess_nodes(nodes) is nodes
    assert reached.is_set()
    assert threads != [get_ident()]


async def test_an_asynchronous_query_encodes_what_it_retrieves(llm: PromptCacheLLM) -> None:
    with llm.engine.recording() as replies:
        await engine_of(llm, PromptCachePostprocessor(llm, PROMPT)).aquery(QUESTION)
    assert shares_reused(replies, TEXTS, llm.engine) == [1]


def test_what_is_written_of_it_holds_no_model(llm: PromptCacheLLM) -> None:
    written = PromptCachePostprocessor(llm, PROMPT).to_json()
    assert written == '{"class_name": "PromptCachePostprocessor"}'


def test_what_cannot_be_done_is_said_when_it_is_made(llm: PromptCacheLLM) -> None:
    with pytest.raises(OptionError, match="llm is a Shelf; expected a PromptCacheLLM"):
        PromptCachePostprocessor(Shelf(NODES))  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="prompt is a str; expected a prompt template"):
        PromptCachePostprocessor(llm, "{context_str}")  # type: ignore[arg-type]
    with pytest.raises(TemplateError, match="no variable 'context_str'"):
        PromptCachePostprocessor(llm, PromptTemplate("{query_str}"))
    with pytest.raises(OptionError, match="llm is None; expected a PromptCacheLLM"):
        PromptCachePostprocessor()
    with pytest.raises(OptionError, match=r"unknown parameter 'k' \(parameters: llm, prompt\)"):
        PromptCachePostprocessor(llm, k=3)
    with pytest.raises(PromptError, match="a document is a dict"):
        PromptCachePostprocessor(llm).postprocess_nodes([{}])  # type: ignore[list-item]


def test_nothing_retrieved_is_nothing_cached(llm: PromptCacheLLM) -> None:
    nothing: list[NodeWithScore] = []
    assert PromptCachePostprocessor(llm, PROMPT).postprocess_nodes(nothing) is nothing
    assert llm.engine.store.keys() == []
