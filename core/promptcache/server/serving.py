"""Work for the model: it gets a place, a thread and a deadline, and ends when nobody waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from threading import Event
from typing import Any, TypeVar

import torch
from torch import Tensor

from promptcache.background import Send as Hand
from promptcache.background import sent
from promptcache.reply import Reply
from promptcache.server.failures import SERVER, RefusedError
from promptcache.server.gate import Gate
from promptcache.stream import Stream

T = TypeVar("T")


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
