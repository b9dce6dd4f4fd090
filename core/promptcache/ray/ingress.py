"""The ingress: who asks, which modules that names, and which answers are put together of several.

Knows neither models nor Ray: what it sends requests by is handed to it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

from fastapi import Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from promptcache.prompts import key_of
from promptcache.ray.figures import joined
from promptcache.ray.naming import Names
from promptcache.ray.trying import lost, persistently
from promptcache.ray.wire import Asked, Version, Whole
from promptcache.server.failures import Json, refusal_of
from promptcache.server.reading import bytes_of
from promptcache.server.sending import unless_left

DOCUMENTS, FORGET = "/v1/documents", "/v1/documents/forget"
MODULES, SCHEMAS = "/v1/modules", "/v1/schemas/"
METRICS = "/metrics"
OF_THE_CONNECTION = {b"host", b"content-length", b"connection", b"transfer-encoding"}
"""Headers that are about the connection to the ingress alone."""


class Cluster(Protocol):
    """What an ingress sends requests by."""

    def ask(self, asked: Asked) -> AsyncGenerator[Message]:
        """What the replica sends that suits a request best.

        Raises ReplicaLostError when that replica is lost, RefusedError when too many wait.
        """

    async def ask_all(self, asked: Asked) -> list[Whole]:
        """The answers of every replica that there is now and that is not lost meanwhile."""

    async def add(self, changes: list[Asked]) -> Version:
        """Have the register take in changes."""

    async def since(self, known: Version) -> tuple[Version, list[Asked]]:
        """What the register has taken in after a version."""


class Ingress:
    """Answers a cluster's requests. For one event loop.

    `door` says whose a request is, by its header. A body has `most` bytes at most, and no more
    than `attempts` replicas are lost with one request.
    """

    def __init__(
        self,
        cluster: Cluster,
        door: Callable[[str], str],
        *,
        most: int,
        attempts: int,
    ) -> None:
        self._cluster = cluster
        self._door = door
        self._most = most
        self._attempts = attempts
        self._known = Version()
        self._changes: list[Asked] = []
        self._names: dict[str, Names] = {}
        self._learning = asyncio.Lock()

    async def answer(self, request: Request) -> Response:
        """The answer to a request; errors have OpenAI's form."""
        try:
            if request.scope["path"] == "/healthz":
                return Json({"status": "ok"})
            return await self._answer(request)
        except Exception as error:
            return refusal_of(error).response()

    async def _answer(self, request: Request) -> Response:
        namespace = self._door(request.headers.get("authorization", ""))
        body = await bytes_of(request, self._most)
        await self._learn()
        asked = Asked(
            method=request.method,
            path=request.scope["path"],
            query=request.scope["query_string"],
            headers=tuple(h for h in request.headers.raw if h[0] not in OF_THE_CONNECTION),
            body=body,
            namespace=namespace,
            version=self._known,
        )
        if asked.path == METRICS:
            return await unless_left(request, self._figures(asked))
        if not asked.path.startswith("/v1/"):
            raise HTTPException(404)  # the page is about one process
        if asked.path in (MODULES, FORGET) or asked.path.startswith(f"{MODULES}/"):
            return await unless_left(request, self._of_all(asked))
        if asked.method == "POST":
            modules = self._names_of(namespace).of(asked.path, body)
            asked = replace(asked, modules=modules)
        messages = persistently(lambda: self._cluster.ask(asked), self._attempts)
        try:
            start = await unless_left(request, anext(messages))
        except BaseException:
            await messages.aclose()
            raise
        if start["status"] == 200 and _registers(asked):
            await self._cluster.add([asked])
        return _Streamed(start, messages)

    async def _of_all(self, asked: Asked) -> Response:
        """The answer to what is about the modules of all replicas."""
        answers = await self._served_by_all(asked)
        if isinstance(answers, Whole):
            return _passed(answers)
        said = [json.loads(answer.body) for answer in answers]
        if asked.method == "GET":
            found = {module["key"]: module for each in said for module in each["data"]}
            listed = sorted(found.values(), key=lambda module: (module["name"], module["key"]))
            return Json({"object": "list", "data": listed})
        if _registers(asked):
            await self._cluster.add([asked])
        return Json({name: _most(each[name] for each in said) for name in said[0]})

    async def _figures(self, asked: Asked) -> Response:
        """The figures of all replicas."""
        answers = await self._served_by_all(asked)
        if isinstance(answers, Whole):
            return _passed(answers)
        page = joined({answer.replica: answer.body.decode() for answer in answers})
        return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def _served_by_all(self, asked: Asked) -> list[Whole] | Whole:
        """The answers of all replicas that serve a request; where none does, how one refuses it."""
        answers = await self._cluster.ask_all(asked)
        if not answers:
            raise lost(1)
        return [answer for answer in answers if answer.status == 200] or answers[0]

    async def _learn(self) -> None:
        """Take in what was registered since the last request, by whichever ingress."""
        async with self._learning:
            version, changes = await self._cluster.since(self._known)
            if self._changes and version.epoch != self._known.epoch:
                # The register was lost: it is given what is known here, before what is new there.
                await self._cluster.add(self._changes)
                version, changes = await self._cluster.since(Version())
                self._changes = []
            for change in changes:
                _take_in(self._names_of(change.namespace), change)
            self._changes += changes
            self._known = version

    def _names_of(self, namespace: str) -> Names:
        return self._names.setdefault(namespace, Names(namespace))


def _registers(asked: Asked) -> bool:
    """Whether a request changes what all replicas are to know; pins are each replica's own."""
    if asked.method == "POST":
        return asked.path in (DOCUMENTS, FORGET)
    return asked.method == "DELETE" or asked.path.startswith(SCHEMAS)


def _passed(answer: Whole) -> Response:
    """An answer as a replica gave it."""
    headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in answer.headers}
    return Response(answer.body, answer.status, headers)


def _most(values: Iterable[Any]) -> Any:
    """The greatest of numbers, the first of anything else."""
    found = list(values)
    return max(found) if type(found[0]) is int else found[0]


def _take_in(names: Names, change: Asked) -> None:
    """Let names be found in requests as a change says."""
    if change.path == DOCUMENTS:
        names.register(json.loads(change.body)["documents"])
    elif change.path == FORGET:
        for text in json.loads(change.body)["documents"]:
            names.forget(key_of(text))
    elif change.method == "DELETE" and change.path != MODULES:
        names.forget(change.path.removeprefix(f"{MODULES}/"))


class _Streamed(StreamingResponse):
    """An answer as it came, handed on; its messages are closed when it ends, or nobody reads it."""

    def __init__(self, start: Message, messages: AsyncGenerator[Message]) -> None:
        super().__init__(_bodies(messages), start["status"])
        self.raw_headers = [(name, value) for name, value in start["headers"]]
        self._messages = messages

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer until the client leaves."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self._messages.aclose()


async def _bodies(messages: AsyncGenerator[Message]) -> AsyncGenerator[bytes]:
    async for message in messages:
        yield message.get("body", b"")
