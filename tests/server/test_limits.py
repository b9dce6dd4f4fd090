"""What is refused, and that nothing else is disturbed by it: sizes, places, time, nonsense."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from promptcache.errors import OptionError
from promptcache.server.app import create_app
from promptcache.server.limits import Limits
from support.serving import (
    CHAT,
    PROMPT,
    SCHEMA,
    Fixed,
    Held,
    asked,
    client_of,
    events,
    marked,
    tiny_engines,
    until,
)

LONG = asked("Tell me.", max_tokens=900)


def error_of(response: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a response, which has OpenAI's form."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert len(error["message"].split()) > 2
    assert isinstance(error, dict)
    return error


async def figure(client: httpx.AsyncClient, name: str) -> float:
    page = (await client.get("/metrics")).text
    found = re.search(rf"^promptcache_{re.escape(name)} (\S+)$", page, re.M)
    assert found is not None, name
    return float(found[1])


async def settled(client: httpx.AsyncClient) -> None:
    """Wait until no request has a place."""
    async with asyncio.timeout(60):
        while await figure(client, "running"):
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not(told: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(30):
            yield b" " * 100

    app = create_app(tiny_engines(), limits=Limits(body=1000))
    async with client_of(app) as client:
        for method, path in (("POST", CHAT), ("PUT", "/v1/schemas/trip")):
            content: Any = b" " * 3000 if told else parts()
            response = await client.request(method, path, content=content)
            assert error_of(response, 413)["code"] == "body_too_large"
        assert (await client.post(CHAT, json=asked("Hi"))).status_code == 200


async def test_a_prompt_that_is_too_long_is_refused_before_it_is_computed() -> None:
    app = create_app(tiny_engines(), limits=Limits(window=60))
    async with client_of(app) as client:
        refused = await client.post(CHAT, json=asked("x" * 60))
        cut = (await client.post(CHAT, json=asked("x" * 30, max_tokens=900))).json()
    assert "the window that was set holds 60" in error_of(refused, 400)["message"]
    assert cut["usage"]["total_tokens"] <= 60


async def test_a_full_queue_refuses_the_next_and_serves_those_that_wait() -> None:
    held = Held()
    app = create_app(Fixed(held.engine()), limits=Limits(concurrency=1, queue=1))
    async with client_of(app) as client:
        first, second = (
            asyncio.create_task(client.post(CHAT, json=asked(text))) for text in ("one", "two")
        )
        await until(held.begun.is_set)
        async with asyncio.timeout(60):
            while await figure(client, "waiting") < 1:
                await asyncio.sleep(0.01)
        refused = await client.post(CHAT, json=asked("three"))
        assert error_of(refused, 429)["code"] == "queue_full"
        assert int(refused.headers["Retry-After"]) >= 1
        held.go.set()
        assert [(await task).status_code for task in (first, second)] == [200, 200]
        assert (await client.post(CHAT, json=asked("three"))).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
async def test_a_request_that_takes_too_long_ends_and_leaves_its_place(stream: bool) -> None:
    held = Held()
    limits = Limits(concurrency=1, queue=4, timeout=0.5)
    app = create_app(Fixed(held.engine()), limits=limits)
    async with client_of(app) as client:
        slow = await client.post(CHAT, json={**LONG, "stream": stream})
        waited = await client.post(CHAT, json=asked("next"))
        assert error_of(slow, 504)["code"] == "timeout"
        assert error_of(waited, 504)["code"] == "timeout"
        held.go.set()
        await settled(client)
    assert held.tokens <= 1


async def ask_and_leave(app: FastAPI, body: dict[str, Any], when: Callable[[], bool]) -> None:
    """A request whose client goes away as soon as `when` holds."""
    sent = False

    async def receive() -> dict[str, Any]:
        nonlocal sent
        if not sent:
            sent = True
            return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}
        await until(when)
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        pass

    scope = {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
        "method": "POST", "scheme": "http", "path": CHAT, "raw_path": CHAT.encode(),
        "query_string": b"", "headers": [], "server": ("server", 80), "client": ("client", 1),
    }  # fmt: skip
    async with asyncio.timeout(60):
        await app(scope, receive, send)  # type: ignore[arg-type]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokens", [0, 3])
async def test_a_client_that_goes_away_leaves_its_place_and_ends_its_answer(
    stream: bool, tokens: int
) -> None:
    held = Held(free=tokens)
    app = create_app(Fixed(held.engine()), limits=Limits(concurrency=1, queue=4))
    async with client_of(app) as client:
        body = {**LONG, "stream": stream}
        await ask_and_leave(app, body, lambda: held.begun.is_set() and held.tokens >= tokens)
        held.go.set()
        await settled(client)
        assert held.tokens <= tokens + 1
        assert (await client.post(CHAT, json=asked("next"))).status_code == 200


async def test_a_client_that_goes_away_while_it_waits_leaves_the_queue() -> None:
    held = Held()
    app = create_app(Fixed(held.engine()), limits=Limits(concurrency=1, queue=1))
    async with client_of(app) as client:
        first = asyncio.create_task(client.post(CHAT, json=asked("one")))
        await until(held.begun.is_set)
        await ask_and_leave(app, asked("two"), lambda: True)
        assert await figure(client, "waiting") == 0
        third = asyncio.create_task(client.post(CHAT, json=asked("three")))
        held.go.set()
        assert [(await task).status_code for task in (first, third)] == [200, 200]
    assert held.tokens == 16


async def test_a_stream_that_fails_says_so_at_its_end() -> None:
    held = Held(free=2)
    app = create_app(Fixed(held.engine()), limits=Limits(timeout=1.0))
    async with client_of(app) as client:
        response = await client.post(CHAT, json={**LONG, "stream": True})
        held.go.set()
        await settled(client)
    assert response.status_code == 200
    first, *_, last = events(response)
    assert first["choices"][0]["delta"]["role"] == "assistant"
    assert last["error"]["code"] == "timeout"
    assert held.tokens <= 3


async def test_many_clients_at_once_get_the_answers_that_they_get_one_by_one() -> None:
    texts = [f"Document {n} says that {n} times {n} is {n * n}." for n in range(12)]
    chance = random.Random(3)
    bodies = []
    for number in range(32):
        chosen = chance.sample(texts, 3)
        content = [*map(marked, chosen), {"type": "text", "text": f" Question {number}?"}]
        bodies.append(asked(content, stream=number % 2 == 0))

    def said(response: httpx.Response) -> str:
        if "event-stream" not in response.headers["content-type"]:
            return str(response.json()["choices"][0]["message"]["content"])
        deltas = [chunk["choices"][0]["delta"] for chunk in events(response)]
        return "".join(delta.get("content", "") for delta in deltas)

    async with client_of(create_app(tiny_engines())) as client:
        alone = [said(await client.post(CHAT, json=body)) for body in bodies]
    async with client_of(create_app(tiny_engines())) as client:
        responses = await asyncio.gather(*(client.post(CHAT, json=body) for body in bodies))
        assert [said(response) for response in responses] == alone
        assert await figure(client, "running") == 0


WRONG_FIELDS: dict[str, list[Any]] = {
    "messages": ["text", [], [[]], [{}], [{"role": "user"}], [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}], None],
    "max_tokens": [0, -1, 1.5, "8", True, 10**30],
    "temperature": [-1, 3, "hot", [], True],
    "top_p": [-0.5, 2, "x"],
    "seed": [1.5, "x", 2**70],
    "stop": [5, [""], [5], {}],
    "n": [2, 0, "1", 1.5, True],
    "stream": [1, "true", {}],
    "stream_options": [5, {"include": True}],
    "model": ["other", 5, []],
    "reuse": ["Magic", "FirstK()", "FirstK(1", "__import__('os')", "x" * 300, 5],
    "tools": [[5], "search", [{"name": "x"}], {}],
    "frequency_penalty": [0.5], "logprobs": [True], "response_format": [{"type": "json_object"}],
    "logit_bias": [{"5": 1}], "tool_choice": ["search"], "banana": [1, None],
}  # fmt: skip
WRONG_MARKUP = [
    "", "plain", "<prompt", "<prompt/>", '<prompt schema="no"/>', PROMPT[:-1], "<a>&x;</a>",
    '<prompt schema="trip"><orlando/></prompt>', '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
    '<schema name="trip"><module name="a" src="/etc/passwd"/></schema>',
]  # fmt: skip


def wrong_request(chance: random.Random) -> dict[str, Any]:
    """A request with one thing wrong."""
    kind = chance.randrange(6)
    if kind == 0:
        field = chance.choice(list(WRONG_FIELDS))
        body = asked("Hi", **{field: chance.choice(WRONG_FIELDS[field])})
        return {"method": "POST", "url": CHAT, "content": json.dumps(body)}
    if kind == 1:
        whole = json.dumps(asked("Hi")).encode()
        return {"method": "POST", "url": CHAT, "content": whole[: chance.randrange(len(whole))]}
    if kind == 2:
        url = chance.choice([CHAT, "/v1/pml", "/v1/documents", "/v1/completions"])
        return {"method": "POST", "url": url, "content": chance.randbytes(chance.randrange(200))}
    if kind == 3:
        url = chance.choice(["/v2", CHAT + "/x", "/", "/v1/modules/none", "/v1/models/none"])
        method = chance.choice(["DELETE", "PATCH"])
        return {"method": method, "url": url}
    if kind == 4:
        markup = chance.choice(WRONG_MARKUP)
        return {"method": "POST", "url": "/v1/pml", "content": json.dumps({"prompt": markup})}
    return {"method": "PUT", "url": "/v1/schemas/other", "content": chance.choice(WRONG_MARKUP)}


async def test_malformed_requests_are_answered_by_a_sentence_and_disturb_nothing() -> None:
    chance = random.Random(9)
    async with client_of(create_app(tiny_engines())) as client:
        await client.put("/v1/schemas/trip", content=SCHEMA)
        good = {"prompt": PROMPT, "max_tokens": 8}
        before = (await client.post("/v1/pml", json=good)).json()
        listed = (await client.get("/v1/modules")).json()
        for _ in range(200):
            request = wrong_request(chance)
            response = await client.request(**request)
            assert 400 <= response.status_code < 500, f"{request} -> {response.text}"
            error_of(response, response.status_code)
        after = (await client.post("/v1/pml", json=good)).json()
        assert (after["text"], after["usage"]) == (before["text"], before["usage"])
        assert (await client.get("/v1/modules")).json() == listed
        assert await figure(client, "running") == 0


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"messages": ' + b"9" * 5000 + b"}", b"\xff\xfe", b"null", b"NaN"]
)
async def test_hostile_json_is_refused(content: bytes) -> None:
    async with client_of(create_app(tiny_engines())) as client:
        error_of(await client.post(CHAT, content=content), 400)


@pytest.mark.parametrize(
    "wrong", [{"concurrency": 0}, {"queue": -1}, {"timeout": 0.0}, {"body": 0}, {"window": 0}]
)
def test_limits_that_let_nothing_through_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=f"{next(iter(wrong))}="):
        Limits(**wrong)
