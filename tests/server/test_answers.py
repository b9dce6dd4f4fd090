"""Answers over HTTP: those of the engine, in OpenAI's forms and our own, whole and as they come."""

from __future__ import annotations

from typing import Any

import pytest

from core.text.tool_templates import QWEN_TOOLS
from promptcache import PromptCache, Stream
from promptcache.server.app import create_app
from promptcache.server.engines import Engines
from support.scripted import Script, call, roomy_model
from support.serving import (
    CHAT,
    OTHER,
    PROMPT,
    SCHEMA,
    TEXT,
    Fixed,
    asked,
    client_of,
    events,
    marked,
    tiny_engines,
)
from support.words import byte_tokenizer


def alone() -> PromptCache:
    return tiny_engines().of("")


async def test_a_chat_is_answered_as_the_engine_answers_it() -> None:
    reply = alone().generate_messages(asked("How tall?")["messages"], max_new_tokens=8)
    async with client_of(create_app(tiny_engines())) as client:
        said = (await client.post(CHAT, json=asked("How tall?", model="tiny"))).json()
        streamed = events(await client.post(CHAT, json=asked("How tall?", stream=True)))
    assert said["object"] == "chat.completion"
    assert said["model"] == "tiny"
    [choice] = said["choices"]
    assert choice["message"]["content"] == reply.text
    assert choice["finish_reason"] == reply.finish_reason
    assert said["usage"]["prompt_tokens"] == reply.usage.input_tokens
    assert said["usage"]["completion_tokens"] == reply.usage.output_tokens
    deltas = [chunk["choices"][0]["delta"] for chunk in streamed]
    assert deltas[0]["role"] == "assistant"
    assert "".join(delta.get("content", "") for delta in deltas) == reply.text
    assert [chunk["choices"][0]["finish_reason"] for chunk in streamed][-1] == reply.finish_reason
    assert {chunk["object"] for chunk in streamed} == {"chat.completion.chunk"}


async def test_options_of_openai_are_those_of_the_engine() -> None:
    messages = asked("How tall?")["messages"]
    wanted = alone().generate_messages(messages, max_new_tokens=6, temperature=0.7, seed=5)
    stop = wanted.text[2:4]
    given = {"temperature": 0.7, "seed": 5, "max_completion_tokens": 6, "n": 1, "logprobs": False}
    async with client_of(create_app(tiny_engines())) as client:
        said = (await client.post(CHAT, json=asked("How tall?", **given))).json()
        cut = (await client.post(CHAT, json=asked("How tall?", **given, stop=[stop]))).json()
    assert said["choices"][0]["message"]["content"] == wanted.text
    assert cut["choices"][0]["message"]["content"] == wanted.text.partition(stop)[0]
    assert cut["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_says_what_it_took_and_where_tokens_came_from_when_asked() -> None:
    body = asked([marked(TEXT), {"type": "text", "text": " Q?"}], trace=True)
    async with client_of(create_app(tiny_engines())) as client:
        await client.post(CHAT, json=body)
        options = {"stream": True, "stream_options": {"include_usage": True}}
        *_, ended, took = events(await client.post(CHAT, json={**body, **options}))
    assert took["choices"] == []
    assert took["usage"]["prompt_tokens_details"]["cached_tokens"] >= len(TEXT)
    spans = ended["promptcache"]["trace"]
    assert [s["provenance"] for s in spans if s["text"] == TEXT] == ["exact"]
    assert sum(span["tokens"] for span in spans) == took["usage"]["prompt_tokens"]


async def test_marked_blocks_are_reused_in_another_order() -> None:
    def both(*texts: str) -> dict[str, Any]:
        return asked([*map(marked, texts), {"type": "text", "text": " Q?"}])

    async with client_of(create_app(tiny_engines())) as client:
        await client.post(CHAT, json=both(TEXT, OTHER))
        said = (await client.post(CHAT, json=both(OTHER, TEXT))).json()
    cached = said["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert cached >= len(TEXT) + len(OTHER)


async def test_markup_is_answered_in_a_chat_block_and_at_its_own_address() -> None:
    engine = alone()
    engine.add_schema(SCHEMA)
    reply = engine.generate(PROMPT, max_new_tokens=8)
    block = {"type": "pml", "pml": PROMPT}
    async with client_of(create_app(tiny_engines())) as client:
        put = (await client.put("/v1/schemas/trip", content=SCHEMA)).json()
        chat = (await client.post(CHAT, json=asked([block]))).json()
        whole = (await client.post("/v1/pml", json={"prompt": PROMPT, "max_tokens": 8})).json()
        response = await client.post(
            "/v1/pml", json={"prompt": PROMPT, "max_tokens": 8, "stream": True}
        )
        beside = await client.post(CHAT, json=asked([block, {"type": "text", "text": "!"}]))
        as_text = (await client.post(CHAT, json=asked(PROMPT))).json()
    assert [module["name"] for module in put["modules"]] == ["trip.miami"]
    assert chat["choices"][0]["message"]["content"] == reply.text
    assert whole["text"] == reply.text
    assert whole["usage"]["exact"] == reply.usage.exact > 0
    assert [span["module"] for span in whole["trace"]] == [span.module for span in reply.trace]
    *pieces, last = events(response)
    assert "".join(piece["delta"] for piece in pieces) == last["text"] == reply.text
    assert beside.status_code == 400
    assert "a whole prompt" in beside.json()["error"]["message"]
    assert as_text["usage"]["prompt_tokens"] > len(PROMPT)


async def test_a_text_is_continued() -> None:
    reply = alone().generate_text("Once upon", max_new_tokens=8)
    body = {"prompt": "Once upon", "max_tokens": 8}
    async with client_of(create_app(tiny_engines())) as client:
        said = (await client.post("/v1/completions", json=body)).json()
        listed = await client.post("/v1/completions", json={**body, "prompt": ["Once upon"]})
        streamed = events(await client.post("/v1/completions", json={**body, "stream": True}))
        two = await client.post("/v1/completions", json={**body, "prompt": ["a", "b"]})
    assert said["choices"][0]["text"] == reply.text
    assert said["object"] == "text_completion"
    assert listed.json()["choices"][0]["text"] == reply.text
    assert "".join(chunk["choices"][0]["text"] for chunk in streamed) == reply.text
    assert two.status_code == 400
    assert "prompt has 2 texts" in two.json()["error"]["message"]


def calling() -> Engines:
    class Scripted(PromptCache):
        def stream_messages(self, messages: Any, **options: Any) -> Stream:
            script = Script(lambda _: call("search", query="bridge"))
            return super().stream_messages(messages, **options, logits_processor=[script])

    return Fixed(Scripted(roomy_model(), byte_tokenizer(QWEN_TOOLS), name="tiny"))


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_tools_come_as_openai_writes_them(stream: bool) -> None:
    parameters = {"type": "object", "properties": {"query": {"type": "string"}}}
    tool = {"type": "function", "function": {"name": "search", "parameters": parameters}}
    body = asked("Find it.", tools=[tool], tool_choice="auto", stream=stream, max_tokens=200)
    async with client_of(create_app(calling())) as client:
        response = await client.post(CHAT, json=body)
    if stream:
        chunks = [chunk["choices"][0] for chunk in events(response)]
        said = next(c["delta"] for c in chunks if "tool_calls" in c["delta"])
        reason = chunks[-1]["finish_reason"]
        assert said["tool_calls"][0].pop("index") == 0
    else:
        [choice] = response.json()["choices"]
        said, reason = choice["message"], choice["finish_reason"]
        assert said["content"] is None
    [made] = said["tool_calls"]
    assert made["function"] == {"name": "search", "arguments": '{"query": "bridge"}'}
    assert made["type"] == "function"
    assert made["id"]
    assert reason == "tool_calls"


async def test_the_model_is_listed_and_no_other_is_served() -> None:
    async with client_of(create_app(tiny_engines())) as client:
        listed = (await client.get("/v1/models")).json()
        one = await client.get("/v1/models/tiny")
        other = await client.post(CHAT, json=asked("Hi", model="tony"))
    assert [each["id"] for each in listed["data"]] == ["tiny"]
    assert one.json() == listed["data"][0]
    assert other.status_code == 404
    assert "did you mean 'tiny'" in other.json()["error"]["message"]
