"""Encoder, postprocessor and helper, one after the other with one model."""

from __future__ import annotations

import pytest
from llama_index.core import Settings
from llama_index.core.ingestion import IngestionPipeline
from llama_index.core.prompts import PromptTemplate
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers import ResponseMode
from llama_index.core.schema import Document, TextNode

from llama_index_promptcache.encoder import PromptCacheEncoder
from llama_index_promptcache.llm import PromptCacheLLM
from llama_index_promptcache.postprocessor import PromptCachePostprocessor
from llama_index_promptcache.prompt_helper import WholeNodePromptHelper
from promptcache.reply import Reply
from promptcache.stream import Stream
from support.llama import NODES, QUESTION, TEXTS, Shelf
from support.rag import tiny_engine


@pytest.fixture
def llm(monkeypatch: pytest.MonkeyPatch) -> PromptCacheLLM:
    llm = PromptCacheLLM(engine=tiny_engine(), max_new_tokens=1)
    # LlamaIndex's own helper counts chat prompts in an event loop that it never closes.
    monkeypatch.setattr(Settings, "_prompt_helper", WholeNodePromptHelper.from_llm(llm))
    return llm


def encoded_by(llm: PromptCacheLLM, prompt: PromptTemplate | None = None) -> int:
    """How many of the nodes are encoded if they are cached for a query engine's prompt now."""
    given = PromptCacheEncoder(llm).prompt if prompt is None else prompt
    return llm.cache_documents(NODES, given, progress=False).encoded


def test_what_a_pipeline_or_a_postprocessor_encoded_is_not_encoded_again(
    llm: PromptCacheLLM,
) -> None:
    documents = [Document(text=text) for text in TEXTS]
    nodes = IngestionPipeline(transformations=[PromptCacheEncoder(llm)]).run(documents=documents)
    assert nodes == documents
    before = set(llm.engine.store.keys())
    assert len(before) >= len(TEXTS)
    assert encoded_by(llm) == 0
    RetrieverQueryEngine.from_args(Shelf(NODES), llm=llm).query(QUESTION)
    assert llm.engine.forget_documents(TEXTS) == len(TEXTS)
    prompt = PromptTemplate("Use this.\n\n{context_str}\n\nQuestion: {query_str}\n")
    RetrieverQueryEngine.from_args(
        Shelf(NODES),
        llm=llm,
        text_qa_template=prompt,
        node_postprocessors=[PromptCachePostprocessor(llm, prompt)],
    ).query(QUESTION)
    assert encoded_by(llm, prompt) == 0


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE])
def test_every_node_is_whole_in_a_prompt_and_no_prompt_is_too_long_for_the_engine(
    llm: PromptCacheLLM, mode: ResponseMode, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts: list[str] = []
    account = Stream.reply.fget
    assert account is not None

    def kept(stream: Stream) -> Reply:
        reply = account(stream)
        prompts.append("".join(span.text for span in reply.trace.spans))
        return reply

    monkeypatch.setattr(Stream, "reply", property(kept))
    texts = [f"{i}: {'words ' * (8 + i)}end{i}." for i in range(9)]
    nodes = [TextNode(text=text) for text in texts]
    RetrieverQueryEngine.from_args(Shelf(nodes), llm=llm, response_mode=mode).query(QUESTION)
    assert len(prompts) > 1
    for text in texts:
        assert sum(text in prompt for prompt in prompts) == 1
