"""PromptCacheRetriever: LangChain's own suite, and documents that are ready when they arrive."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests

from langchain_promptcache import ChatPromptCache, PromptCacheLLM, PromptCacheRetriever
from promptcache import PromptCache
from promptcache.errors import OptionError, TemplateError
from support.rag import DOCUMENTS, PROMPT, QUESTION, Ear, Shelf, reused, tiny_engine

SHELF = Shelf(documents=DOCUMENTS)
TEXTS = [document.page_content for document in DOCUMENTS]


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture
def llm(engine: PromptCache) -> ChatPromptCache:
    engine.forget_documents(TEXTS)
    engine.store.evict()
    return ChatPromptCache(engine=engine, max_tokens=1)


class TestSuite(RetrieversIntegrationTests):
    """The standard suite, around the retriever of a vector store."""

    @pytest.fixture(autouse=True)
    def _llm(self, llm: ChatPromptCache) -> None:
        self.llm = llm

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return PromptCacheRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        store = InMemoryVectorStore.from_documents(DOCUMENTS, DeterministicFakeEmbedding(size=8))
        return {"retriever": store.as_retriever(), "llm": self.llm, "prompt": PROMPT}

    @property
    def retriever_query_example(self) -> str:
        return QUESTION


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_the_first_prompt_of_a_chain_reuses_what_was_retrieved(
    llm: ChatPromptCache, asynchronous: bool
) -> None:
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm, prompt=PROMPT)
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, PROMPT))
    ear = Ear()
    if asynchronous:
        await chain.ainvoke({"input": QUESTION}, config={"callbacks": [ear]})
    else:
        chain.invoke({"input": QUESTION}, config={"callbacks": [ear]})
    assert reused(ear.message, DOCUMENTS, llm.engine) == 1
    assert ear.message.usage_metadata["input_token_details"]["cache_creation"] == 0


def test_a_text_models_documents_are_encoded_behind_its_own_prompts(engine: PromptCache) -> None:
    llm = PromptCacheLLM(engine=engine, max_tokens=1)
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm, prompt=PROMPT)
    chain = create_retrieval_chain(retriever, create_stuff_documents_chain(llm, PROMPT))
    runs = RunCollectorCallbackHandler()
    chain.invoke({"input": QUESTION}, config={"callbacks": [runs]})
    (run,) = [run for run in _all(runs.traced_runs) if run.run_type == "llm"]
    (answer,) = run.outputs["generations"][0]
    details = answer["generation_info"]["usage_metadata"]["input_token_details"]
    assert details["cache_creation"] == 0
    assert details["cache_read"] >= sum(map(engine.count_tokens, TEXTS))


def test_what_the_engine_has_is_not_encoded_again(llm: ChatPromptCache) -> None:
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm, prompt=PROMPT)
    retriever.invoke(QUESTION)
    states = llm.engine.store.keys()
    retriever.invoke(QUESTION)
    assert sorted(llm.engine.store.keys()) == sorted(states)
    assert llm.cache_documents(DOCUMENTS, PROMPT, progress=False).encoded == 0


def test_without_a_prompt_documents_are_registered(llm: ChatPromptCache) -> None:
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm.bind(stop=["a"]), k=2)
    assert retriever.invoke(QUESTION) == DOCUMENTS[:2]
    assert llm.engine.forget_documents(TEXTS) == 2


async def test_any_runnable_that_gives_documents_can_be_wrapped(llm: ChatPromptCache) -> None:
    retriever = PromptCacheRetriever(retriever=RunnableLambda(lambda _: DOCUMENTS), llm=llm)
    assert retriever.invoke(QUESTION) == await retriever.ainvoke(QUESTION) == DOCUMENTS


async def test_the_event_loop_is_free_while_documents_are_encoded(llm: ChatPromptCache) -> None:
    prompt = ChatPromptTemplate.from_template("Many words come first. " * 20 + "{context}")
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm, prompt=prompt)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await retriever.ainvoke(QUESTION)
    counting.cancel()
    assert turns > 20


def test_the_wrapped_retrievers_run_is_a_child_of_the_wrappers(llm: ChatPromptCache) -> None:
    runs = RunCollectorCallbackHandler()
    retriever = PromptCacheRetriever(retriever=SHELF, llm=llm)
    retriever.invoke(QUESTION, config={"callbacks": [runs]})
    (run,) = runs.traced_runs
    assert (run.name, [child.name for child in run.child_runs]) == (
        "PromptCacheRetriever", ["Shelf"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"llm": SHELF}, "llm is a Shelf; expected a ChatPromptCache"),
        ({"retriever": DOCUMENTS}, "retriever is a list; expected a retriever"),
        ({"k": -1}, "k=-1 is not a positive number"),
        ({"promt": PROMPT}, "unknown parameter 'promt'; did you mean 'prompt'"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    given: dict[str, Any], said: str, llm: ChatPromptCache
) -> None:
    with pytest.raises(OptionError, match=said):
        PromptCacheRetriever(**{"retriever": SHELF, "llm": llm, **given})


def test_a_prompt_without_documents_is_refused_when_it_is_made(llm: ChatPromptCache) -> None:
    with pytest.raises(TemplateError, match="no variable 'docs'"):
        PromptCacheRetriever(retriever=SHELF, llm=llm, prompt=PROMPT, document_variable="docs")


def _all(runs: list[Any]) -> list[Any]:
    return [*runs, *(inner for run in runs for inner in _all(run.child_runs))]
