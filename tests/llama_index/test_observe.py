"""observe_retrievers: what any retriever in the process returns is registered, and how far."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from llama_index.core import VectorStoreIndex
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.instrumentation import root_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.postprocessor import MetadataReplacementPostProcessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import IndexNode, NodeWithScore, TextNode
from llama_index.core.tools import RetrieverTool, ToolMetadata
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index_instrumentation import get_dispatcher

from llama_index_promptcache import PromptCacheLLM, observe_retrievers
from promptcache import PromptCache
from promptcache.errors import OptionError
from promptcache.observing import Observation
from support.llama import NODES, QUESTION, TEXTS, Shelf, scored, tiny_llm
from support.rag import tiny_engine
from support.reuse import share_reused, shares_reused

RETRIEVER = Shelf(NODES)


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture(params=[None, False], ids=["chat model", "text model"])
def llm(request: pytest.FixtureRequest, engine: PromptCache) -> PromptCacheLLM:
    engine.forget_documents(TEXTS)
    return tiny_llm(engine, is_chat_model=request.param)


@pytest.fixture
def observation(llm: PromptCacheLLM) -> Iterator[Observation]:
    with observe_retrievers(llm) as observation:
        yield observation


def registered(llm: PromptCacheLLM, texts: list[str] = TEXTS) -> int:
    """How many of the texts are registered; none is from here on."""
    return llm.engine.forget_documents(texts)


def test_an_unchanged_query_engine_reuses_its_nodes_from_the_second_prompt_on(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    shelf = Shelf(NODES)
    engine = RetrieverQueryEngine.from_args(shelf, llm=llm)
    with llm.engine.recording() as replies:
        for nodes in (NODES, NODES[::-1]):
            shelf.nodes = nodes
            engine.query(QUESTION)
    assert shares_reused(replies, TEXTS, llm.engine) == [0, 1]


async def test_what_a_postprocessor_puts_in_a_nodes_place_is_registered_when_it_is_sent(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    windows = ["The window around a first sentence.", "The window around another sentence."]
    nodes = [TextNode(text=f"{i}", metadata={"window": w}) for i, w in enumerate(windows)]
    for node in nodes:
        node.excluded_llm_metadata_keys = ["window"]
    engine = RetrieverQueryEngine.from_args(
        Shelf(nodes), llm=llm, node_postprocessors=[MetadataReplacementPostProcessor("window")]
    )
    with llm.engine.recording() as replies:
        for question in ("How?", "Why?"):
            engine.query(question)
    assert share_reused(replies[1], windows, llm.engine) == 1
    assert registered(llm, windows) == len(windows)
    await engine.aquery(QUESTION)
    assert registered(llm, windows) == len(windows)


def test_what_a_reranker_returns_is_registered(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    get_dispatcher("some.reranker").event(ReRankEndEvent(nodes=scored(NODES[:2])))
    assert registered(llm) == 2


def test_every_thread_is_heard_also_one_that_knows_nothing_of_this_context(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    def loop() -> None:
        asyncio.run(RETRIEVER.aretrieve(QUESTION))

    for target in (lambda: RETRIEVER.retrieve(QUESTION), loop):
        thread = Thread(target=target)
        thread.start()
        thread.join()
        assert registered(llm) == len(NODES)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(RETRIEVER.retrieve, QUESTION).result()
    assert registered(llm) == len(NODES)


async def test_every_task_is_heard_also_one_that_began_before(llm: PromptCacheLLM) -> None:
    begin = asyncio.Event()

    async def retrieve() -> None:
        await begin.wait()
        await RETRIEVER.aretrieve(QUESTION)

    task = asyncio.create_task(retrieve())
    await asyncio.sleep(0)
    with observe_retrievers(llm):
        begin.set()
        await task
        assert registered(llm) == len(NODES)
        await asyncio.gather(RETRIEVER.aretrieve(QUESTION), RETRIEVER.aretrieve(QUESTION))
        assert registered(llm) == len(NODES)


async def test_events_that_are_dispatched_asynchronously_are_heard(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    await get_dispatcher("some.reranker").aevent(ReRankEndEvent(nodes=scored(NODES)))
    assert registered(llm) == len(NODES)


def test_retrievers_inside_tools_indexes_and_other_retrievers_are_heard(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    RetrieverTool(RETRIEVER, ToolMetadata("Looks it up.", "look")).call(QUESTION)
    assert registered(llm) == len(NODES)
    embedding = MockEmbedding(embed_dim=2)
    index = VectorStoreIndex(list(NODES), embed_model=embedding)
    index.as_retriever(similarity_top_k=2).retrieve(QUESTION)
    assert registered(llm) == 2
    pointer = IndexNode(text="Look there.", index_id="there", obj=RETRIEVER)
    Shelf([pointer]).retrieve(QUESTION)
    assert registered(llm) == len(NODES)


def test_what_is_not_asked_as_a_retriever_is_not_heard(
    llm: PromptCacheLLM, observation: Observation
) -> None:
    index = VectorStoreIndex(list(NODES), embed_model=MockEmbedding(embed_dim=2))
    found = index.vector_store.query(VectorStoreQuery(query_embedding=[1.0, 0.5]))
    assert found.ids is not None
    assert registered(llm) == 0


def test_a_dispatcher_that_does_not_propagate_is_not_heard(
    llm: PromptCacheLLM, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    dispatcher = get_dispatcher("llama_index.core.base.base_retriever")
    monkeypatch.setattr(dispatcher, "propagate", False)
    RETRIEVER.retrieve(QUESTION)
    assert registered(llm) == 0


def test_nothing_is_heard_before_or_after(llm: PromptCacheLLM) -> None:
    RETRIEVER.retrieve(QUESTION)
    with observe_retrievers(llm) as observation:
        pass
    observation.close()
    RETRIEVER.retrieve(QUESTION)
    assert registered(llm) == 0


def test_what_was_heard_stays_registered_after_the_end(llm: PromptCacheLLM) -> None:
    with observe_retrievers(llm.as_structured_llm(TextNode)):  # type: ignore[arg-type]
        RETRIEVER.retrieve(QUESTION)
    assert registered(llm) == len(NODES)


def test_several_models_hear_and_each_stops_alone(llm: PromptCacheLLM) -> None:
    other = tiny_llm()
    with observe_retrievers(other):
        with observe_retrievers(llm), observe_retrievers(llm):
            RETRIEVER.retrieve(QUESTION)
            assert (registered(llm), registered(other)) == (len(NODES), len(NODES))
        RETRIEVER.retrieve(QUESTION)
        assert (registered(llm), registered(other)) == (0, len(NODES))


def test_observing_often_adds_one_handler_of_each_kind_and_again_after_a_reset(
    llm: PromptCacheLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    observe_retrievers(llm).close()
    before = len(root_dispatcher.event_handlers), len(root_dispatcher.span_handlers)
    for _ in range(3):
        observe_retrievers(llm).close()
    assert (len(root_dispatcher.event_handlers), len(root_dispatcher.span_handlers)) == before
    monkeypatch.setattr(root_dispatcher, "event_handlers", [])
    with observe_retrievers(llm):
        RETRIEVER.retrieve(QUESTION)
    assert registered(llm) == len(NODES)


def test_a_node_that_cannot_be_registered_is_logged_and_breaks_nothing(
    llm: PromptCacheLLM, observation: Observation, caplog: pytest.LogCaptureFixture
) -> None:
    nodes = [NODES[0], TextNode(text="a lone \ud800 surrogate", id_="odd"), NODES[1]]
    assert [n.node for n in Shelf(nodes).retrieve(QUESTION)] == nodes
    assert "a retrieved document was not registered: NodeWithScore(node=TextNode(id_='odd'" in (
        caplog.text
    )
    assert registered(llm) == 2


def test_an_engine_that_fails_is_no_other_engines_failure(
    llm: PromptCacheLLM, observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tiny_engine()
    monkeypatch.setattr(broken, "cache_documents", lambda *_, **__: 1 / 0)
    with observe_retrievers(tiny_llm(broken)):
        assert [n.node for n in RETRIEVER.retrieve(QUESTION)] == NODES
    assert registered(llm) == len(NODES)


def test_observing_does_not_keep_a_model_in_memory() -> None:
    llm = tiny_llm()
    observation = observe_retrievers(llm)
    assert observation.engine is llm.engine
    del llm
    gc.collect()
    assert observation.engine is None
    found: list[NodeWithScore] = RETRIEVER.retrieve(QUESTION)
    assert [n.node for n in found] == NODES
    observation.close()


def test_a_model_of_others_is_refused() -> None:
    with pytest.raises(OptionError, match="llm is a Shelf; expected a PromptCacheLLM"):
        observe_retrievers(RETRIEVER)  # type: ignore[arg-type]
