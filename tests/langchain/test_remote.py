"""ChatPromptCache and PromptCacheLLM on an engine behind a URL: as on one in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.messages import AIMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField
from pydantic import BaseModel

from core.text.tool_templates import QWEN_TOOLS
from langchain_promptcache import ChatPromptCache, PromptCacheLLM
from promptcache import FirstK, PromptCache, PromptCacheError
from promptcache.errors import OptionError, RemoteError
from promptcache.server.app import create_app
from support.rag import DOCUMENTS, PROMPT, tiny_engine
from support.scripted import Script, call, roomy_model
from support.serving import Fixed, running
from support.words import byte_tokenizer

ASKED = PROMPT.invoke({"context": DOCUMENTS[0].page_content, "input": "?"})


@pytest.fixture
def url() -> Iterator[str]:
    with running(create_app(Fixed(tiny_engine()))) as url:
        yield url


def check_same(message: AIMessage, expected: AIMessage) -> None:
    """Everything but the times."""
    assert message.content == expected.content
    assert message.usage_metadata == expected.usage_metadata
    told, wanted = (dict(m.response_metadata) for m in (message, expected))
    for one in (told, wanted):
        assert one.pop("ttft") > 0
        assert one.pop("timings")
    assert told == wanted


async def test_a_chain_gets_the_provenance_that_a_model_in_this_process_gives(url: str) -> None:
    here = ChatPromptCache(engine=tiny_engine(), temperature=0, max_tokens=8, reuse=FirstK(2))
    there = ChatPromptCache(base_url=url, temperature=0, max_tokens=8, reuse=FirstK(2))
    assert there.model == here.model
    for llm in (here, there):
        llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False)
    answers = [
        create_stuff_documents_chain(llm, PROMPT).invoke({"context": DOCUMENTS, "input": "Why?"})
        for llm in (here, there)
    ]
    assert answers[0] == answers[1]
    check_same(there.invoke(ASKED), here.invoke(ASKED))
    reused = there.invoke(ASKED)
    assert reused.usage_metadata is not None
    assert reused.usage_metadata["input_token_details"]["cache_read"] > 0
    check_same(await there.ainvoke(ASKED), reused)
    chunks = [chunk async for chunk in there.astream(ASKED)]
    assert len(chunks) > 2
    assert "".join(chunk.text for chunk in chunks) == reused.text
    assert chunks[-1].usage_metadata == reused.usage_metadata


async def test_a_text_model_answers_as_one_in_this_process(url: str) -> None:
    prompt = PromptTemplate.from_template("Read.\n\n{context}\n\n{input}")
    here = PromptCacheLLM(engine=tiny_engine(), temperature=0, max_tokens=8)
    there = PromptCacheLLM(base_url=url, temperature=0, max_tokens=8)
    for llm in (here, there):
        llm.cache_documents(DOCUMENTS, prompt=prompt, progress=False)
    texts = [prompt.format(context=document.page_content, input="?") for document in DOCUMENTS[:3]]
    assert there.batch(texts) == here.batch(texts)
    assert await there.ainvoke(texts[0]) == here.invoke(texts[0])
    one = there.generate(texts[:1]).generations[0][0].generation_info
    assert one is not None
    assert one["usage_metadata"]["input_token_details"]["cache_read"] > 0


def test_tools_are_called_and_schemas_filled(url: str) -> None:
    class Search(BaseModel):
        """Search the library."""

        query: str

    class Scripted(PromptCache):
        def stream_messages(self, messages: Any, **options: Any) -> Any:
            script = Script(lambda _: call("Search", query="bridge"))
            return super().stream_messages(messages, **options, logits_processor=[script])

    engine = Scripted(roomy_model(), byte_tokenizer(QWEN_TOOLS), name="tiny")
    with running(create_app(Fixed(engine))) as other:
        llm = ChatPromptCache(base_url=other, max_tokens=200)
        [made] = llm.bind_tools([Search]).invoke("Find it.").tool_calls
        assert (made["name"], made["args"]) == ("Search", {"query": "bridge"})
    with pytest.raises(PromptCacheError, match="tools"):
        ChatPromptCache(base_url=url).bind_tools([Search])


def test_copies_share_the_connection(url: str) -> None:
    llm = ChatPromptCache(base_url=url, timeout=60, max_tokens=4)
    choice = llm.configurable_fields(max_tokens=ConfigurableField("length"))
    chosen = choice.invoke("Hello", config={"configurable": {"length": 2}})
    assert chosen.usage_metadata["output_tokens"] == 2
    assert llm.bind(stop=["a"]).bound.engine is llm.engine


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device": "cpu"}, "device= has no effect with base_url="),
        ({"store": "/tmp"}, "store= has no effect with base_url="),
        ({"namespace": "a"}, "namespace= has no effect with base_url="),
        ({"model": "b"}, "model='b' was given with an engine that serves 'tiny'"),
        ({"generation_kwargs": {"no_repeat_ngram_size": 3}}, "no_repeat_ngram_size= cannot be"),
        ({"timeout": -1}, "timeout=-1.0 is not a number of seconds above 0"),
    ],
)
def test_what_makes_no_sense_for_a_server_is_refused_by_name(
    settings: dict[str, Any], said: str, url: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        ChatPromptCache(base_url=url, **settings)


def test_no_server_is_an_error_and_a_key_is_shown_nowhere() -> None:
    with pytest.raises(RemoteError, match="cannot be reached") as error:
        ChatPromptCache(base_url="http://127.0.0.1:9", api_key="pc-secret", max_retries=0)
    assert "secret" not in str(error.value)
