"""How answers are sent: as a whole or line by line, and not to a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, TypeVar

from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from promptcache.server.failures import as_json, refusal_of
from promptcache.server.visits import visit_of

T = TypeVar("T")
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


async def unless_left(request: Request, working: Awaitable[T]) -> T:
    """What is awaited; when the client goes away first, that is cancelled.

    Raises ClientDisconnect then. The request's body has to be read before.
    """

    async def left() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(working), asyncio.ensure_future(left())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise ClientDisconnect
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def last_of(items: AsyncGenerator[T]) -> T:
    """The last item."""
    async with aclosing(items):
        async for item in items:
            last = item
    return last


class Lines(StreamingResponse):
    """A response that comes line by line; whatever it is made of is closed when it ends."""

    def __init__(self, lines: AsyncGenerator[bytes], media_type: str) -> None:
        super().__init__(lines, media_type=media_type, headers={"Cache-Control": "no-store"})
        self._lines = lines

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the lines until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._lines.aclose()


async def streamed(
    request: Request, forms: AsyncGenerator[dict[str, Any]], media_type: str
) -> Response:
    """Forms as server-sent events or lines of JSON, once the first of them is there.

    An error before that is raised; one after it is the last thing that is sent.
    """
    try:
        first = await unless_left(request, anext(forms))
    except BaseException:
        await forms.aclose()
        raise
    before, after = (b"data: ", b"\n\n") if media_type == SSE else (b"", b"\n")

    async def lines() -> AsyncGenerator[bytes]:
        async with aclosing(forms):
            yield before + as_json(first) + after
            try:
                async for form in forms:
                    yield before + as_json(form) + after
            except Exception as error:
                refusal = refusal_of(error)
                visit_of(request).error = refusal.error
                yield before + as_json(refusal.body) + after
            if media_type == SSE:
                yield b"data: [DONE]\n\n"

    return Lines(lines(), media_type)
