"""What tests of the server share: an app over a tiny random model, and clients in this process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI
from torch import Tensor

from promptcache import PromptCache, Stream
from promptcache.server.app import create_app
from promptcache.server.engines import Engines
from promptcache.server.keys import Keys, add_key
from promptcache.store import MemoryStore
from support.words import byte_tokenizer
from support.zoo import model

TEXT = "The lighthouse of Arven is 31 metres tall and painted white."
OTHER = "Mira Tollen plays the viola in Ostmark every summer."
SCHEMA = '<schema name="trip"><module name="miami">Miami is hot.</module></schema>'
PROMPT = '<prompt schema="trip"><miami/>Go?</prompt>'
CHAT = "/v1/chat/completions"


def tiny_engines(**options: Any) -> Engines:
    return Engines(
        model("llama"),
        byte_tokenizer(),
        name="tiny",
        store=MemoryStore(10**8),
        options={"conversations": False, "continuous_batching": True, **options},
    )


class Fixed(Engines):
    """Has one engine for everybody."""

    def __init__(self, engine: PromptCache) -> None:
        self.name, self.store, self._engine = engine.name, engine.store, engine

    def of(self, namespace: str) -> PromptCache:
        return self._engine


class Held:
    """Holds answers before each token but the first `free` until it is let go, and counts them.

    The tokens have no text, so that nothing is sent while such an answer grows.
    """

    def __init__(self, free: int = 0) -> None:
        self.begun, self.go = Event(), Event()
        self.tokens = 0
        self._free = free

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        self.begun.set()
        assert self.tokens < self._free or self.go.wait(60)
        self.tokens += 1
        scores[:, 0] = 1e6
        return scores

    def engine(self) -> PromptCache:
        held = self

        class Slow(PromptCache):
            def stream_messages(self, messages: Any, **options: Any) -> Stream:
                return super().stream_messages(messages, **options, logits_processor=[held])

        return Slow(model("llama"), byte_tokenizer(), name="tiny", conversations=False)


@asynccontextmanager
async def client_of(app: FastAPI, key: str | None = None) -> AsyncGenerator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://server", headers=headers, timeout=60
    ) as client:
        yield client


def app_with_keys(folder: Path, *namespaces: str) -> tuple[FastAPI, list[str]]:
    """An app, and a key for each namespace."""
    keys = [add_key(folder / "keys", namespace) for namespace in namespaces]
    return create_app(tiny_engines(), keys=Keys.read(folder / "keys")), keys


def asked(content: object, **more: Any) -> dict[str, Any]:
    return {
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 8,
        "temperature": 0,
        **more,
    }


def marked(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}


def events(response: httpx.Response) -> list[Any]:
    """What a stream of server-sent events said; it has to have come to its end."""
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.01)


@contextmanager
def running(app: FastAPI) -> Iterator[str]:
    """The app behind a port of this machine; its URL."""
    config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=10)
    server = uvicorn.Server(config)
    thread = Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        [socket] = server.servers[0].sockets
        yield f"http://127.0.0.1:{socket.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
