"""PromptCacheLLM on an engine behind a URL: as on one in this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, CompletionResponse
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool

from core.text.tool_templates import QWEN_TOOLS
from llama_index_promptcache import PromptCacheLLM
from promptcache import PromptCache
from promptcache.errors import OptionError, RemoteError
from promptcache.server.app import create_app
from support.llama import unspeakable
from support.rag import DOCUMENTS, tiny_engine
from support.scripted import Script, call, roomy_model
from support.serving import Fixed, running
from support.words import byte_tokenizer

TEXTS = [document.page_content for document in DOCUMENTS]
CHAT = [ChatMessage(f"{TEXTS[0]}\n\nHow tall?")]
PROMPT = PromptTemplate("Use this.\n\n{context_str}\n\nQuestion: {query_str}")


class Mute(PromptCache):
    """Answers in letters alone, which no form of an answer strips."""

    def stream_messages(self, messages: Any, **options: Any) -> Any:
        return super().stream_messages(messages, **self.quiet, **options)

    def stream_text(self, prompt: Any, **options: Any) -> Any:
        return super().stream_text(prompt, **self.quiet, **options)

    def stream(self, prompt: Any, **options: Any) -> Any:
        return super().stream(prompt, **self.quiet, **options)

    @property
    def quiet(self) -> dict[str, Any]:
        return {"suppress_tokens": list(unspeakable())}


def mute() -> PromptCache:
    tiny = tiny_engine()
    return Mute(tiny.model, tiny.tokenizer, name=tiny.name)


@pytest.fixture
def url() -> Iterator[str]:
    with running(create_app(Fixed(mute()))) as url:
        yield url


def told(response: Any) -> dict[str, Any]:
    """What a response says of itself, its times left out."""
    raw = dict(response.raw)
    assert raw.pop("ttft") > 0
    assert raw.pop("timings")
    return raw


async def test_every_form_of_an_answer_is_the_one_of_a_model_in_this_process(url: str) -> None:
    settings: dict[str, Any] = {"temperature": 0, "max_new_tokens": 10}
    here = PromptCacheLLM(engine=mute(), **settings)
    there = PromptCacheLLM(base_url=url, **settings)
    assert there.model_name == here.model_name
    assert there.metadata == here.metadata
    for llm in (here, there):
        llm.cache_documents(TEXTS, prompt=PROMPT, progress=False)
    values = {"context_str": "\n\n".join(TEXTS), "query_str": "Why?"}
    assert there.predict(PROMPT, **values) == here.predict(PROMPT, **values)
    for _ in range(2):
        chat, expected = there.chat(CHAT), here.chat(CHAT)
        assert chat.message == expected.message
        assert told(chat) == told(expected)
    assert told(chat)["usage"]["prompt_tokens_details"]["cached_tokens"] > 0
    assert told(there.complete("Once", formatted=True)) == told(
        here.complete("Once", formatted=True)
    )
    said = await there.acomplete("Once")
    assert isinstance(said, CompletionResponse)
    assert said.text == here.complete("Once").text
    pieces = [piece async for piece in await there.astream_chat(CHAT)]
    assert len(pieces) > 2
    assert pieces[-1].message.content == expected.message.content
    assert told(pieces[-1])["usage"] == told(chat)["usage"]


def test_a_function_that_formats_prompts_writes_control_tokens(url: str) -> None:
    def formatted(text: str) -> str:
        return f"<s><|user|>{text}</s><|assistant|>"

    settings: dict[str, Any] = {"completion_to_prompt": formatted, "max_new_tokens": 6}
    here = PromptCacheLLM(engine=mute(), temperature=0, **settings).complete("Hello <|user|>")
    there = PromptCacheLLM(base_url=url, temperature=0, **settings).complete("Hello <|user|>")
    assert there.text == here.text
    assert told(there) == told(here)


def test_tools_are_called() -> None:
    class Scripted(PromptCache):
        def stream_messages(self, messages: Any, **options: Any) -> Any:
            script = Script(lambda _: call("search", query="bridge"))
            return super().stream_messages(messages, **options, logits_processor=[script])

    def search(query: str) -> str:
        """Search the library."""
        return query

    engine = Scripted(roomy_model(), byte_tokenizer(QWEN_TOOLS), name="tiny")
    with running(create_app(Fixed(engine))) as url:
        llm = PromptCacheLLM(base_url=url, max_new_tokens=200)
        response = llm.chat_with_tools([FunctionTool.from_defaults(search)], "Find it.")
        [made] = llm.get_tool_calls_from_response(response)
    assert (made.tool_name, made.tool_kwargs) == ("search", {"query": "bridge"})


def test_a_dict_says_where_the_server_is_and_not_what_the_key_is(url: str) -> None:
    llm = PromptCacheLLM(base_url=url, api_key="pc-secret", timeout=60, temperature=0)
    written = llm.to_dict()
    assert "secret" not in repr(written)
    again = PromptCacheLLM.from_dict({**written}, api_key="pc-secret")
    assert again.engine.base_url == llm.engine.base_url
    assert again.complete("Once").text == llm.complete("Once").text


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"device_map": "cpu"}, "device_map= has no effect with base_url="),
        ({"store": "/tmp"}, "store= has no effect with base_url="),
        ({"stopping_ids": [3]}, "stopping_ids= has no effect with base_url="),
        ({"model_name": "b"}, "model_name='b' was given with an engine that serves 'tiny'"),
        ({"generate_kwargs": {"top_h": 3}}, "unknown generation option 'top_h'"),
        ({"generate_kwargs": {"no_repeat_ngram_size": 3}}, "no_repeat_ngram_size= cannot be"),
    ],
)
def test_what_makes_no_sense_for_a_server_is_refused_by_name(
    settings: dict[str, Any], said: str, url: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        PromptCacheLLM(base_url=url, **settings)


def test_no_server_is_an_error() -> None:
    with pytest.raises(RemoteError, match="cannot be reached"):
        PromptCacheLLM(base_url="http://127.0.0.1:9", max_retries=0)
