"""A request and its answer as they go from process to process: plain values, ASGI messages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message


@dataclass(frozen=True, slots=True)
class Version:
    """How much of what was registered is known: `number` changes of one register, `epoch`."""

    epoch: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read to its end.

    `path` is as it was sent, without the query. `modules` are the keys of those that it names;
    `version` is what whoever answers has to know first.
    """

    method: str
    path: str
    query: bytes = b""
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes = b""
    namespace: str = ""
    modules: tuple[str, ...] = ()
    version: Version = field(default_factory=Version)

    @property
    def scope(self) -> dict[str, Any]:
        """The request as ASGI has it."""
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "scheme": "http",
            "method": self.method,
            "path": unquote(self.path),
            "raw_path": self.path.encode(),
            "root_path": "",
            "query_string": self.query,
            "headers": list(self.headers),
            "client": None,
            "server": None,
        }


async def answered(app: ASGIApp, asked: Asked) -> AsyncGenerator[Message]:
    """What an app in this process sends in answer to a request.

    When the reader leaves, the app hears that its client has left, and is waited for.
    """
    messages: asyncio.Queue[Message | None] = asyncio.Queue()
    left = asyncio.Event()
    body: list[Message] = [{"type": "http.request", "body": asked.body, "more_body": False}]

    async def receive() -> Message:
        if body:
            return body.pop()
        await left.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        messages.put_nowait(message)

    async def run() -> None:
        try:
            await app(asked.scope, receive, send)
        finally:
            messages.put_nowait(None)

    running = asyncio.ensure_future(run())
    try:
        while (message := await messages.get()) is not None:
            yield message
    finally:
        left.set()
        with suppress(Exception):  # the app has logged it, and answered that it failed
            await running


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer that has come to its end, and the name of the replica that gave it."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    replica: str = ""


async def whole(messages: AsyncGenerator[Message]) -> Whole:
    """The answer that an app's messages make."""
    async with aclosing(messages):
        start = await anext(messages)
        body = [message.get("body", b"") async for message in messages]
    headers = tuple((name, value) for name, value in start["headers"])
    return Whole(start["status"], headers, b"".join(body))
