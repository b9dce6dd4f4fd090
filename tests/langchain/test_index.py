"""PromptModuleIndex: LangChain's own suites, and modules in step with their sources."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_classic.storage import LocalFileStore, create_kv_docstore
from langchain_core.documents import Document
from langchain_core.indexing import DocumentIndex, InMemoryRecordManager, aindex, index
from langchain_core.retrievers import BaseRetriever
from langchain_core.stores import InMemoryStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from langchain_tests.integration_tests.indexer import (
    AsyncDocumentIndexTestSuite,
    DocumentIndexerTestSuite,
)

from langchain_promptcache import ChatPromptCache, PromptModuleIndex
from promptcache import PromptCache
from promptcache.errors import OptionError, PromptError, TemplateError
from support.rag import DOCUMENTS, PROMPT, QUESTION, tiny_engine

TEXTS = [document.page_content for document in DOCUMENTS]
NAMED = [d.model_copy(update={"id": str(n)}) for n, d in enumerate(DOCUMENTS)]


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture
def llm(engine: PromptCache) -> Iterator[ChatPromptCache]:
    yield ChatPromptCache(engine=engine, max_tokens=1)
    engine.forget_documents(TEXTS)
    engine.store.evict()


@pytest.fixture
def modules(llm: ChatPromptCache) -> PromptModuleIndex:
    return PromptModuleIndex(llm=llm, prompt=PROMPT)


class TestSuite(DocumentIndexerTestSuite):
    """The standard suite."""

    @pytest.fixture
    def index(self, llm: ChatPromptCache) -> DocumentIndex:  # type: ignore[override]
        return PromptModuleIndex(llm=llm)


class TestAsyncSuite(AsyncDocumentIndexTestSuite):
    """The standard suite, awaited."""

    @pytest.fixture
    async def index(self, llm: ChatPromptCache) -> DocumentIndex:  # type: ignore[override]
        return PromptModuleIndex(llm=llm)


class TestAsRetriever(RetrieversIntegrationTests):
    """The standard suite of retrievers, on an index that holds a few documents."""

    @pytest.fixture(autouse=True)
    def _llm(self, llm: ChatPromptCache) -> None:
        self.llm = llm

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        return PromptModuleIndex

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        store = InMemoryStore()
        store.mset([(document.id, document) for document in NAMED])
        return {"llm": self.llm, "store": store}

    @property
    def retriever_query_example(self) -> str:
        return "The viola in the lighthouse, every summer in a museum"


def encoded(llm: ChatPromptCache) -> int:
    """How many of the documents are still to be encoded for the prompt; none is from here on."""
    return llm.cache_documents(DOCUMENTS, PROMPT, progress=False).encoded


def run(documents: list[Document], modules: PromptModuleIndex, records: Any) -> Any:
    return index(
        documents, records, modules, cleanup="full", source_id_key="source", key_encoder="sha256"
    )


def test_the_indexing_api_keeps_modules_in_step_with_their_sources(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    records = InMemoryRecordManager("test")
    records.create_schema()
    documents = [Document(text, metadata={"source": str(n)}) for n, text in enumerate(TEXTS)]
    assert run(documents, modules, records)["num_added"] == len(TEXTS)
    assert encoded(llm) == 0
    assert run(documents, modules, records)["num_skipped"] == len(TEXTS)
    done = run(documents[1:], modules, records)
    assert (done["num_deleted"], done["num_skipped"]) == (1, 2)
    states = len(llm.engine.store.keys())
    assert llm.engine.forget_documents(TEXTS[:1]) == 0
    assert encoded(llm) == 1
    assert len(llm.engine.store.keys()) == states + 1


async def test_the_asynchronous_indexing_api_does_so_too(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    records = InMemoryRecordManager("test")
    await records.acreate_schema()
    old, new = (Document(text, metadata={"source": "a"}) for text in TEXTS[:2])
    for document in (old, new):
        await aindex(
            [document], records, modules, cleanup="incremental", source_id_key="source",
            key_encoder="sha256",
        )  # fmt: skip
    assert [d.page_content for d in await modules.ainvoke("Arven Mira")] == TEXTS[1:2]
    assert llm.engine.forget_documents(TEXTS[:2]) == 1


def test_a_deleted_document_is_forgotten_unless_another_id_has_its_text(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    twin = Document(f" {TEXTS[0]}\n", id="twin")
    modules.upsert([*NAMED, twin])
    states = len(llm.engine.store.keys())
    modules.delete(["0"])
    assert len(llm.engine.store.keys()) == states
    assert encoded(llm) == 0
    modules.delete(["twin", "none"])
    assert len(llm.engine.store.keys()) == states - 1
    assert encoded(llm) == 1


def test_an_upsert_that_changes_a_text_forgets_the_old_one(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    modules.upsert(NAMED[:1])
    modules.upsert([Document(TEXTS[1], id="0")])
    assert llm.engine.forget_documents(TEXTS[:1]) == 0
    assert encoded(llm) == 2
    assert [d.page_content for d in modules.invoke("Arven Mira")] == TEXTS[1:2]


def test_two_ids_that_swap_their_texts_keep_both(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    modules.upsert(NAMED[:2])
    swapped = [Document(TEXTS[1], id="0"), Document(TEXTS[0], id="1")]
    modules.upsert(swapped)
    assert modules.get(["0", "1"]) == swapped
    assert encoded(llm) == 1


def test_a_document_that_no_prompt_can_hold_changes_nothing(modules: PromptModuleIndex) -> None:
    with pytest.raises(PromptError, match="a lone surrogate"):
        modules.upsert([NAMED[0], Document("a lone \ud800 surrogate", id="1")])
    assert modules.get(["0", "1"]) == []
    assert modules.invoke("Arven") == []


def test_what_a_lasting_store_holds_is_taken_in_by_the_next_index(tmp_path: Path) -> None:
    store = create_kv_docstore(LocalFileStore(tmp_path))
    PromptModuleIndex(llm=ChatPromptCache(engine=tiny_engine()), store=store).upsert(NAMED)
    llm = ChatPromptCache(engine=tiny_engine())
    modules = PromptModuleIndex(llm=llm, prompt=PROMPT, store=store)
    assert encoded(llm) == 0
    assert modules.get(["1"]) == [NAMED[1]]
    assert modules.invoke("Mira")[0].id == "1"
    modules.delete(["0", "1", "2"])
    assert list(store.yield_keys()) == []
    assert llm.engine.forget_documents(TEXTS) == 0


def test_queries_find_documents_that_share_rare_words(modules: PromptModuleIndex) -> None:
    modules.upsert(NAMED)
    assert modules.invoke("Who plays THE viola?")[0].id == "1"
    assert [d.id for d in modules.invoke("the museum in the mill", k=1)] == ["2"]
    assert modules.invoke("Zanzibar") == modules.invoke("?") == []


def test_threads_may_write_and_read_at_once(
    modules: PromptModuleIndex, llm: ChatPromptCache
) -> None:
    def work(number: int) -> None:
        for _ in range(5):
            modules.upsert([Document(TEXTS[number % 3], id=str(number))])
            modules.invoke(QUESTION)
            modules.delete([str(number)])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert modules.invoke("the lighthouse museum viola") == []
    assert llm.engine.forget_documents(TEXTS) == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"llm": 3}, "llm is an int; expected a ChatPromptCache"),
        ({"kk": 3}, "unknown parameter 'kk'; did you mean 'k'?"),
        ({"k": 0}, "k=0 is not a positive number"),
        ({"store": {}}, "store is a dict; expected a LangChain store"),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    given: dict[str, Any], said: str, llm: ChatPromptCache
) -> None:
    with pytest.raises(OptionError, match=said.replace("?", r"\?")):
        PromptModuleIndex(**{"llm": llm, **given})


def test_a_wrong_call_is_one_sentence(modules: PromptModuleIndex, llm: ChatPromptCache) -> None:
    with pytest.raises(OptionError, match="needs the ids"):
        modules.delete()
    with pytest.raises(OptionError, match="ids='0' is a text"):
        modules.delete("0")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"upsert\(\) takes no 'vector_field'"):
        modules.upsert(NAMED, vector_field="embedding")
    with pytest.raises(OptionError, match="llm= is missing"):
        PromptModuleIndex()
    with pytest.raises(TemplateError, match="no variable 'docs'"):
        PromptModuleIndex(llm=llm, prompt=PROMPT, document_variable="docs")
