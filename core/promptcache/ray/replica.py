"""A replica: one engine in one process, that answers whatever the server's app answers."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, aclosing
from dataclasses import replace

from fastapi import FastAPI
from starlette.types import Message

from promptcache.ray.wire import Asked, Version, Whole, answered, whole

Since = Callable[[Version], Awaitable[tuple[Version, list[Asked]]]]
"""Asks the register what came after a version."""
log = logging.getLogger("promptcache.ray")


class Replica:
    """Answers requests by an app in this process. For one event loop.

    `since` is asked whenever a request needs to know more than is known here, so that a replica
    that has just started knows the schemas and documents that were registered before. `plain`
    says that modules are no expected states unless a request asks for them.
    """

    def __init__(self, app: FastAPI, since: Since, *, plain: bool = True) -> None:
        self._app = app
        self._since = since
        self._plain = plain
        self._known = Version()
        self._learning = asyncio.Lock()
        self._running = AsyncExitStack()
        self._runs = False

    async def stop(self) -> None:
        """End what the app needed while it ran."""
        await self._running.aclose()

    async def answer(self, asked: Asked) -> AsyncGenerator[Message]:
        """What the app sends in answer, once all is known that the request relies on."""
        await self._learn(asked.version)
        async with aclosing(answered(self._app, asked)) as messages:
            async for message in messages:
                yield message

    async def _learn(self, wanted: Version) -> None:
        """Make the changes that were registered elsewhere, up to the version at least."""
        if self._runs and wanted == self._known:
            return
        async with self._learning:
            if not self._runs:
                await self._running.enter_async_context(
                    self._app.router.lifespan_context(self._app)
                )
                self._runs = True
            if self._known.epoch == wanted.epoch and self._known.number >= wanted.number:
                return
            known, changes = await self._since(self._known)
            for change in changes:
                said = await whole(answered(self._app, self._cheaply(change)))
                _check(change, said)
            self._known = known

    def _cheaply(self, change: Asked) -> Asked:
        """A change as it is made where another replica has encoded already: nothing is encoded.

        Where documents are to be expected states, what they stand after says for which; these are
        looked up.
        """
        if change.method == "PUT":
            kept = [p for p in change.query.split(b"&") if p and not p.startswith(b"encode=")]
            return replace(change, query=b"&".join([*kept, b"encode=false"]))
        if change.path == "/v1/documents":
            body = json.loads(change.body)
            if self._plain and not body.get("context"):
                only = json.dumps({"documents": body["documents"]})
                return replace(change, body=only.encode("ascii"))
        return change


def _check(change: Asked, said: Whole) -> None:
    """Log a change that was made elsewhere and cannot be made here; a deletion may find nothing."""
    if said.status != 200 and not (change.method == "DELETE" and said.status == 404):
        log.error("%s %s: status %d, %.500r", change.method, change.path, said.status, said.body)
