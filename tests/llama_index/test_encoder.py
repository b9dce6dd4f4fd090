"""PromptCacheEncoder in real ingestion pipelines: what it encodes, and when it is not asked."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
from pathlib import Path
from threading import get_ident
from typing import Any

import pytest
from llama_index.core.embeddings import MockEmbedding
from llama_index.core.ingestion import DocstoreStrategy, IngestionCache, IngestionPipeline
from llama_index.core.ingestion.pipeline import get_transformation_hash
from llama_index.core.llms import ChatMessage
from llama_index.core.node_parser import SentenceSplitter
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.types import BaseOutputParser
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import BasePydanticVectorStore

from llama_index_promptcache import (
    PromptCacheEncoder,
    PromptCacheLLM,
    PromptCachePostprocessor,
)
from promptcache import PromptCache
from promptcache.errors import OptionError, TemplateError
from support.llama import NODES, QUESTION, TEXTS, Shelf, tiny_llm
from support.rag import tiny_engine
from support.reuse import share_reused, shares_reused
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import model

PROMPT = PromptTemplate("Use this.\n\n{context_str}\n\nQuestion: {query_str}\n")
SPLITTER = SentenceSplitter(chunk_size=64, chunk_overlap=0)


@pytest.fixture(params=[None, False], ids=["chat model", "text model"])
def llm(request: pytest.FixtureRequest) -> PromptCacheLLM:
    return tiny_llm(is_chat_model=request.param)


@pytest.fixture
def encoded(llm: PromptCacheLLM, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many documents each call of the engine encoded; calls without any are left out."""
    counts: list[int] = []
    cache = llm.engine.cache_documents

    def counted(texts: Any, **options: Any) -> Any:
        report = cache(texts, **options)
        counts.extend([report.encoded] if report.keys else [])
        return report

    monkeypatch.setattr(llm.engine, "cache_documents", counted)
    return counts


def documents() -> list[Document]:
    return [Document(text=text, id_=f"document {i}") for i, text in enumerate(TEXTS)]


def test_nodes_come_out_as_they_went_in(llm: PromptCacheLLM) -> None:
    before = [node.model_copy(deep=True) for node in NODES]
    out = PromptCacheEncoder(llm)(NODES)
    assert [id(node) for node in out] == [id(node) for node in NODES]
    assert before == NODES


def test_a_default_query_engine_reuses_from_its_first_prompt_on_what_a_pipeline_encoded(
    llm: PromptCacheLLM,
) -> None:
    pipeline = IngestionPipeline(transformations=[SPLITTER, PromptCacheEncoder(llm=llm)])
    nodes = pipeline.run(documents=documents())
    assert len(nodes) == len(TEXTS)
    with llm.engine.recording() as replies:
        RetrieverQueryEngine.from_args(Shelf(list(nodes)), llm=llm).query(QUESTION)
    assert shares_reused(replies, TEXTS, llm.engine) == [1]


def test_nodes_are_encoded_for_the_prompt_that_is_given_or_registered_without(
    llm: PromptCacheLLM,
) -> None:
    PromptCacheEncoder(llm, None)(NODES)
    assert llm.engine.store.keys() == []
    assert llm.engine.forget_documents(TEXTS) == len(TEXTS)
    PromptCacheEncoder(llm, PROMPT)(NODES)
    assert llm.cache_documents(NODES, PROMPT, progress=False).encoded == 0
    assert llm.cache_documents(NODES, DEFAULT_TEXT_QA_PROMPT_SEL, progress=False).encoded == 3


def test_a_bar_is_shown_when_asked_for(
    llm: PromptCacheLLM, capsys: pytest.CaptureFixture[str]
) -> None:
    PromptCacheEncoder(llm)(NODES)
    assert "3/3" not in capsys.readouterr().err
    PromptCacheEncoder(llm, show_progress=True)(NODES)
    assert "3/3" in capsys.readouterr().err


async def test_the_event_loop_is_free_while_nodes_are_encoded(
    llm: PromptCacheLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, reached, threads = asyncio.get_running_loop(), asyncio.Event(), []
    cache = llm.engine.cache_documents

    def waits(*args: Any, **kwargs: Any) -> Any:
        threads.append(get_ident())
        asyncio.run_coroutine_threadsafe(seen(), loop).result(10)
        return cache(*args, **kwargs)

    async def seen() -> None:
        reached.set()

    encoder = PromptCacheEncoder(llm)
    monkeypatch.setattr(llm.engine, "cache_documents", waits)
    nodes = await IngestionPipeline(transformations=[SPLITTER, encoder]).arun(documents=documents())
    assert len(nodes) == len(TEXTS)
    assert reached.is_set()
    assert threads != [get_ident()]


# The pipeline's cache.


def test_a_second_run_is_served_by_the_pipelines_cache(
    llm: PromptCacheLLM, encoded: list[int]
) -> None:
    pipeline = IngestionPipeline(transformations=[SPLITTER, PromptCacheEncoder(llm)])
    nodes = pipeline.run(documents=documents())
    again = pipeline.run(documents=documents())
    assert [node.id_ for node in again] == [node.id_ for node in nodes]
    assert encoded == [len(TEXTS)]


def test_two_processes_find_the_same_entry_of_the_cache(llm: PromptCacheLLM) -> None:
    code = (
        "from llama_index.core.ingestion.pipeline import get_transformation_hash\n"
        "from llama_index_promptcache.encoder import PromptCacheEncoder\n"
        "from support.llama import NODES, tiny_llm\n"
        f"llm = tiny_llm(is_chat_model={llm.is_chat_model})\n"
        "print(get_transformation_hash(NODES, PromptCacheEncoder(llm)))\n"
    )
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / name) for name in ("core", "integrations", "tests"))
    command = [sys.executable, "-c", code]
    found = set()
    for seed in "17":
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        found.add(done.stdout.strip())
    assert len(found) == 1 and len(found.pop()) > 20


def said(prompt: Any, llm: PromptCacheLLM) -> str:
    return str(PromptCacheEncoder(llm, prompt).to_dict())


def test_encoders_differ_where_nodes_are_encoded_after_another_text(llm: PromptCacheLLM) -> None:
    toned = PromptTemplate("Be {tone}. {context_str}")
    prompts = [
        None,
        DEFAULT_TEXT_QA_PROMPT_SEL,
        PROMPT,
        toned.partial_format(tone="dry"),
        toned.partial_format(tone="wry"),
        ChatPromptTemplate([ChatMessage("Use this: {context_str}", role="system")]),
        RichPromptTemplate("Use this. {{ context_str }}"),
    ]
    known = [said(prompt, llm) for prompt in prompts]
    assert len(set(known)) == len(prompts)
    assert known == [said(prompt, llm) for prompt in prompts]
    own = known[2]
    assert own == said(PROMPT, tiny_llm(is_chat_model=llm.is_chat_model))
    other = PromptCache(model("qwen2"), byte_tokenizer(TEMPLATE), name="tiny")
    assert own != said(PROMPT, tiny_llm(other, is_chat_model=llm.is_chat_model))
    llm.cache_documents(NODES, PROMPT, progress=False)
    for same in (
        PromptTemplate(PROMPT.template),
        PROMPT.partial_format(unused="x"),
        PromptTemplate("Use this.\n\n{context_str}\n\n{query_str}\n"),
    ):
        assert said(same, llm) == own
        assert llm.cache_documents(NODES, same, progress=False).encoded == 0


class Preceding(BaseOutputParser):
    """Puts something in front of a prompt."""

    def parse(self, output: str) -> str:
        return output

    def format(self, query: str) -> str:
        return f"Answer in JSON. {query}"


def test_encoders_differ_where_one_prompt_becomes_another_text_for_their_models() -> None:
    engine = tiny_engine()
    llms = [
        tiny_llm(engine),
        tiny_llm(engine, system_prompt="Be brief."),
        tiny_llm(engine, output_parser=Preceding()),
        tiny_llm(engine, is_chat_model=False),
        tiny_llm(engine, is_chat_model=False, system_prompt="Be brief."),
        tiny_llm(engine, is_chat_model=False, output_parser=Preceding()),
        tiny_llm(engine, messages_to_prompt=lambda messages: f"[{messages[0].content}]"),
    ]
    assert len({said(PROMPT, llm) for llm in llms}) == len(llms)
    assert said(PROMPT, llms[0]) == said(PROMPT, tiny_llm(engine, temperature=0, max_new_tokens=9))


def test_another_system_prompt_is_no_entry_of_the_pipelines_cache() -> None:
    engine, cache = tiny_engine(), IngestionCache()
    for system_prompt in ("Be brief.", "Be kind."):
        llm = tiny_llm(engine, system_prompt=system_prompt)
        encoder = PromptCacheEncoder(llm)
        nodes = IngestionPipeline(transformations=[encoder], cache=cache).run(documents=documents())
        with engine.recording() as replies:
            RetrieverQueryEngine.from_args(Shelf(nodes), llm=llm).query(QUESTION)
        assert shares_reused(replies, TEXTS, engine) == [1]


def test_what_is_written_of_an_encoder_is_hashes(llm: PromptCacheLLM) -> None:
    encoder = PromptCacheEncoder(llm, PROMPT.partial_format(key="a secret"))
    written = encoder.to_json() + encoder.model_dump_json() + repr(encoder)
    assert "PromptCacheEncoder" in written
    for hidden in ("secret", "Use this", "llm"):
        assert hidden not in written


# Worker processes.


def test_in_another_process_nodes_pass_and_a_line_says_so(
    llm: PromptCacheLLM, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = PromptCacheEncoder(llm)
    sent = pickle.dumps(encoder)
    assert len(sent) < 200
    there = pickle.loads(sent)
    assert there(NODES) is NODES
    [line] = caplog.messages
    assert line.startswith(
        "3 nodes were neither encoded nor registered: a worker process of a pipe"
    )
    assert "let PromptCachePostprocessor or observe_retrievers register them" in line
    assert get_transformation_hash(NODES, there) != get_transformation_hash(NODES, encoder)


@pytest.mark.stress  # both workers import torch
def test_a_pipeline_with_workers_passes_nodes_and_the_next_one_without_encodes_them(
    llm: PromptCacheLLM, encoded: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(__file__).parents[2]
    path = os.pathsep.join(str(root / name) for name in ("core", "integrations"))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setattr("multiprocessing.cpu_count", lambda: 2)
    pipeline = IngestionPipeline(transformations=[PromptCacheEncoder(llm)])
    nodes = pipeline.run(documents=documents(), num_workers=2)
    assert [node.get_content() for node in nodes] == TEXTS
    assert encoded == []
    pipeline.run(documents=documents())
    assert encoded == [len(TEXTS)]


def test_what_no_encoder_saw_is_a_node_again_once_something_registers_it(
    llm: PromptCacheLLM,
) -> None:
    """After a restart, with a cache that was kept."""
    cache = IngestionCache()
    before = IngestionPipeline(transformations=[SPLITTER, PromptCacheEncoder(llm)], cache=cache)
    before.run(documents=documents())
    restarted = tiny_llm(is_chat_model=llm.is_chat_model)
    encoder = PromptCacheEncoder(restarted)
    after = IngestionPipeline(transformations=[SPLITTER, encoder], cache=cache)
    nodes = list(after.run(documents=documents()))
    assert restarted.forget_documents(nodes) == 0
    postprocessors: list[list[BaseNodePostprocessor]] = [[], [PromptCachePostprocessor(restarted)]]
    for chosen in postprocessors:
        engine = RetrieverQueryEngine.from_args(
            Shelf(nodes), llm=restarted, node_postprocessors=chosen
        )
        with restarted.engine.recording() as replies:
            for question in ("How tall?", "Who plays?"):
                engine.query(question)
        said = [note for reply in replies for note in reply.trace.warnings]
        assert any("belong to no registered document" in note for note in said) is (
            not chosen and llm.is_chat_model is None
        )
    assert share_reused(replies[-1], TEXTS, restarted.engine) == 1


# Document stores.


def stored(llm: PromptCacheLLM, strategy: DocstoreStrategy) -> IngestionPipeline:
    shelf: BasePydanticVectorStore = SimpleVectorStore()
    return IngestionPipeline(
        transformations=[SPLITTER, MockEmbedding(embed_dim=2), PromptCacheEncoder(llm)],
        docstore=SimpleDocumentStore(),
        vector_store=shelf,
        docstore_strategy=strategy,
        disable_cache=True,
    )


@pytest.mark.parametrize("strategy", list(DocstoreStrategy))
def test_a_second_run_encodes_nothing_and_a_changed_document_only_itself(
    llm: PromptCacheLLM, encoded: list[int], strategy: DocstoreStrategy
) -> None:
    pipeline = stored(llm, strategy)
    pipeline.run(documents=documents())
    assert encoded == [len(TEXTS)]
    assert pipeline.run(documents=documents()) == []
    changed = documents()
    changed[1].set_content("Mira Tollen plays the cello in Ostmark.")
    [node] = pipeline.run(documents=changed)
    assert node.get_content() == "Mira Tollen plays the cello in Ostmark."
    assert encoded == [len(TEXTS), 1]


def test_a_run_that_starts_anew_encodes_only_what_changed(
    llm: PromptCacheLLM, encoded: list[int]
) -> None:
    stored(llm, DocstoreStrategy.UPSERTS).run(documents=documents())
    changed = [*documents()[1:], Document(text="The Kolt museum is closed on Mondays.")]
    stored(llm, DocstoreStrategy.UPSERTS).run(documents=changed)
    assert encoded == [len(TEXTS), 1]


def test_what_was_changed_or_deleted_needs_no_forgetting(llm: PromptCacheLLM) -> None:
    pipeline = stored(llm, DocstoreStrategy.UPSERTS_AND_DELETE)
    pipeline.run(documents=documents())
    changed = documents()[:2]
    changed[0].set_content("The lighthouse of Arven is 32 metres tall and painted white.")
    [node] = pipeline.run(documents=changed)
    fresh = tiny_llm(is_chat_model=llm.is_chat_model)
    fresh.cache_documents([node], DEFAULT_TEXT_QA_PROMPT_SEL, progress=False)
    with llm.engine.recording() as replies, fresh.engine.recording() as alone_replies:
        for each in (llm, fresh):
            RetrieverQueryEngine.from_args(Shelf([node]), llm=each).query(QUESTION)  # type: ignore[list-item]
    [reply], [alone] = replies, alone_replies
    assert share_reused(reply, [node.get_content()], llm.engine) == 1
    assert reply.token_ids == alone.token_ids
    assert [span.text for span in reply.trace.spans] == [span.text for span in alone.trace.spans]


def test_what_cannot_be_done_is_said_when_it_is_made(llm: PromptCacheLLM) -> None:
    with pytest.raises(OptionError, match="llm is a str; expected a PromptCacheLLM"):
        PromptCacheEncoder("pocket")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="prompt is a str; expected a prompt template"):
        PromptCacheEncoder(llm, "{context_str}")  # type: ignore[arg-type]
    with pytest.raises(TemplateError, match="no variable 'context_str'"):
        PromptCacheEncoder(llm, PromptTemplate("{query_str}"))
    with pytest.raises(OptionError, match="llm is None; expected a PromptCacheLLM"):
        PromptCacheEncoder()
    with pytest.raises(OptionError, match=r"'template' \(parameters: llm, prompt, show_progress\)"):
        PromptCacheEncoder(llm, template=None)


def test_whole_documents_that_no_prompt_can_hold_are_said_to_be_unsplit(
    llm: PromptCacheLLM, caplog: pytest.LogCaptureFixture
) -> None:
    long = Document(text="The lighthouse of Arven is white. " * 40)
    for prompt in (DEFAULT_TEXT_QA_PROMPT_SEL, None):
        encoder = PromptCacheEncoder(llm, prompt)
        encoder([*documents(), TextNode(text=long.text)])
        assert "whole documents" not in caplog.text
        IngestionPipeline(transformations=[encoder, SPLITTER]).run(documents=[*documents(), long])
        said = [line for line in caplog.messages if "whole documents" in line]
        assert len(said) == 1
        assert "window of 1024 tokens" in said[0] and "put it behind the splitter" in said[0]
        caplog.clear()
        IngestionPipeline(transformations=[SPLITTER, encoder]).run(documents=[long])
        assert caplog.text == ""
