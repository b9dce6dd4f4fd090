"""observe_retrievers: what any retriever in the process returns is registered, and how far."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from langchain_classic.chains import create_retrieval_chain
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import create_retriever_tool
from langchain_core.vectorstores import InMemoryVectorStore

from langchain_promptcache import ChatPromptCache, PromptCacheLLM, observe_retrievers
from promptcache import PromptCache
from promptcache.errors import OptionError
from promptcache.observing import Observation
from support.rag import DOCUMENTS, PROMPT, QUESTION, Ear, Shelf, reused, tiny_engine

RETRIEVER = Shelf(documents=DOCUMENTS)
TEXTS = [document.page_content for document in DOCUMENTS]


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture
def llm(engine: PromptCache) -> ChatPromptCache:
    engine.forget_documents(TEXTS)
    return ChatPromptCache(engine=engine, max_tokens=1)


@pytest.fixture
def observation(llm: ChatPromptCache) -> Iterator[Observation]:
    with observe_retrievers(llm) as observation:
        yield observation


def registered(llm: ChatPromptCache | PromptCacheLLM) -> int:
    """How many of the documents are registered; none is from here on."""
    return llm.engine.forget_documents(TEXTS)


def test_an_unchanged_chain_reuses_its_documents_from_the_second_prompt_on(
    llm: ChatPromptCache, observation: Observation
) -> None:
    shelf = Shelf(documents=DOCUMENTS)
    chain = create_retrieval_chain(shelf, create_stuff_documents_chain(llm, PROMPT))
    shares = []
    for documents in (DOCUMENTS, DOCUMENTS[::-1]):
        ear = Ear()
        shelf.documents = documents
        chain.invoke({"input": QUESTION}, config={"callbacks": [ear]})
        shares.append(reused(ear.message, DOCUMENTS, llm.engine))
    assert shares == [0, 1]


def test_every_thread_is_heard_also_one_that_knows_nothing_of_this_context(
    llm: ChatPromptCache, observation: Observation
) -> None:
    def loop() -> None:
        asyncio.run(RETRIEVER.ainvoke(QUESTION))

    for target in (lambda: RETRIEVER.invoke(QUESTION), loop):
        thread = Thread(target=target)
        thread.start()
        thread.join()
        assert registered(llm) == len(DOCUMENTS)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(RETRIEVER.invoke, QUESTION).result()
    assert registered(llm) == len(DOCUMENTS)


async def test_every_task_is_heard_also_one_that_began_before(llm: ChatPromptCache) -> None:
    begin = asyncio.Event()

    async def retrieve() -> None:
        await begin.wait()
        await RETRIEVER.ainvoke(QUESTION)

    task = asyncio.create_task(retrieve())
    await asyncio.sleep(0)
    with observe_retrievers(llm):
        begin.set()
        await task
        assert registered(llm) == len(DOCUMENTS)
        await RETRIEVER.abatch([QUESTION, QUESTION])
        assert registered(llm) == len(DOCUMENTS)


def test_retrievers_inside_tools_and_of_vector_stores_are_heard(
    llm: ChatPromptCache, observation: Observation
) -> None:
    create_retriever_tool(RETRIEVER, "look", "Looks it up.").invoke(QUESTION)
    assert registered(llm) == len(DOCUMENTS)
    store = InMemoryVectorStore.from_documents(DOCUMENTS, DeterministicFakeEmbedding(size=8))
    store.as_retriever(search_kwargs={"k": 2}).invoke(QUESTION)
    assert registered(llm) == 2


def test_what_is_not_asked_as_a_retriever_is_not_heard(
    llm: ChatPromptCache, observation: Observation
) -> None:
    store = InMemoryVectorStore.from_documents(DOCUMENTS, DeterministicFakeEmbedding(size=8))
    RunnableLambda(store.similarity_search).invoke(QUESTION)
    assert registered(llm) == 0


def test_nothing_is_heard_before_or_after(llm: ChatPromptCache) -> None:
    RETRIEVER.invoke(QUESTION)
    with observe_retrievers(llm) as observation:
        pass
    observation.close()
    RETRIEVER.invoke(QUESTION)
    assert registered(llm) == 0


def test_what_was_heard_stays_registered_after_the_end(llm: ChatPromptCache) -> None:
    with observe_retrievers(llm.bind(stop=["a"])):
        RETRIEVER.invoke(QUESTION)
    assert registered(llm) == len(DOCUMENTS)


def test_several_models_hear_and_each_stops_alone(llm: ChatPromptCache) -> None:
    other = PromptCacheLLM(engine=tiny_engine())
    with observe_retrievers(other):
        with observe_retrievers(llm), observe_retrievers(llm):
            RETRIEVER.invoke(QUESTION)
            assert (registered(llm), registered(other)) == (len(DOCUMENTS), len(DOCUMENTS))
        RETRIEVER.invoke(QUESTION)
        assert (registered(llm), registered(other)) == (0, len(DOCUMENTS))


def test_a_document_that_cannot_be_registered_is_logged_and_breaks_nothing(
    llm: ChatPromptCache, observation: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    documents = [DOCUMENTS[0], Document("a lone \ud800 surrogate"), DOCUMENTS[1]]
    assert Shelf(documents=documents).invoke(QUESTION) == documents
    assert "a retrieved document was not registered" in caplog.text
    assert registered(llm) == 2


def test_an_engine_that_fails_is_no_other_engines_failure(
    llm: ChatPromptCache, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tiny_engine()
    monkeypatch.setattr(broken, "cache_documents", lambda *_, **__: 1 / 0)
    with observe_retrievers(ChatPromptCache(engine=broken)):
        assert RETRIEVER.invoke(QUESTION) == DOCUMENTS
    assert registered(llm) == len(DOCUMENTS)


def test_observing_does_not_keep_a_model_in_memory() -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    observation = observe_retrievers(llm)
    assert observation.engine is llm.engine
    del llm
    gc.collect()
    assert observation.engine is None
    assert RETRIEVER.invoke(QUESTION) == DOCUMENTS
    observation.close()


def test_a_model_of_others_is_refused() -> None:
    with pytest.raises(OptionError, match="llm is a Shelf; expected a ChatPromptCache or a Prompt"):
        observe_retrievers(RETRIEVER)  # type: ignore[arg-type]
