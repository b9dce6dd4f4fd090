"""From work for the model to what is sent: a place, a thread, a deadline, clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from threading import Event
from typing import Any, TypeVar

import torch
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from torch import Tensor

from promptcache.background import Send as Hand
from promptcache.background import sent
from promptcache.reply import Reply
from promptcache.server.failures import SERVER, RefusedError, as_json, refusal_of
from promptcache.server.gate import Gate
from promptcache.server.visits import visit_of
from promptcache.stream import Stream

T = TypeVar("T")
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Leaving:
    """Whether nobody waits for an answer any more: a stopping criterion of its generation."""

    def __init__(self) -> None:
        self._event = Event()

    def leave(self) -> None:
        """Let the generation end with its present token."""
        self._event.set()

    def __call__(self, ids: Tensor, scores: Tensor | None, **_: object) -> Tensor:
        """Whether each row `[rows]` ends with its present token."""
        return torch.full((ids.shape[0],), self._event.is_set(), device=ids.device)


class Serving:
    """Serves work for the model, so much at a time. For one event loop."""

    def __init__(self, gate: Gate, timeout: float) -> None:
        self._gate = gate
        self._timeout = timeout

    async def items(self, work: Callable[[Hand[T]], None]) -> AsyncGenerator[T]:
        """What `work` sends, from a thread that it gets when it has a place.

        The place is free when the thread is done. Raises RefusedError where there is no room to
        wait, or when the time is over.
        """
        deadline = asyncio.get_running_loop().time() + self._timeout
        try:
            async with asyncio.timeout_at(deadline):
                since = await self._gate.enter()
            # No await before the thread is begun, so that the place is left in any case.
            async with aclosing(sent(work, done=lambda: self._gate.leave(since))) as items:
                while True:
                    async with asyncio.timeout_at(deadline):
                        try:
                            item = await anext(items)
                        except StopAsyncIteration:
                            return
                    yield item
        except TimeoutError:
            raise RefusedError(
                504,
                f"the answer was not there after {self._timeout:g} s, the most that this server "
                "takes for a request",
                kind=SERVER,
                code="timeout",
            ) from None

    async def answers(self, ask: Callable[[dict[str, Any]], Stream]) -> AsyncGenerator[str | Reply]:
        """The pieces of an answer, an empty one when it has begun, and last the whole reply.

        `ask` takes the options that end the generation when the reader leaves.
        """
        leaving = Leaving()

        def work(send: Hand[str | Reply]) -> None:
            with ask({"stopping_criteria": [leaving]}) as stream:
                send("")
                for piece in stream:
                    send(piece)
                send(stream.reply)

        try:
            async with aclosing(self.items(work)) as items:
                async for item in items:
                    yield item
        finally:
            leaving.leave()


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
