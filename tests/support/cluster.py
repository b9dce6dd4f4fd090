"""A cluster in this process: real replicas over tiny models, and an ingress, without Ray."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
from starlette.requests import Request
from starlette.types import Message, Receive, Scope, Send

from promptcache.ray.ingress import Ingress
from promptcache.ray.register import Register
from promptcache.ray.replica import Replica
from promptcache.ray.trying import ReplicaLostError
from promptcache.ray.wire import Asked, Version, Whole, whole
from promptcache.server.app import create_app
from promptcache.server.door import Door
from promptcache.server.engines import Engines
from promptcache.server.keys import Keys


class Here:
    """Replicas of this process, asked in turn unless `chosen` says which one is next.

    `losing` requests more are lost, each after the replica has sent `after` messages.
    """

    def __init__(self, engines: Sequence[Engines], keys: Keys | None = None) -> None:
        self.register = Register()
        self.replicas = [Replica(create_app(each, keys=keys), self.since) for each in engines]
        self.asked: list[Asked] = []
        self.chosen: int | None = None
        self.losing, self.after = 0, 0

    async def ask(self, asked: Asked) -> AsyncGenerator[Message]:
        turn = len(self.asked) if self.chosen is None else self.chosen
        self.asked.append(asked)
        lose, self.losing = self.losing > 0, max(0, self.losing - 1)
        sent = 0
        async for message in self.replicas[turn % len(self.replicas)].answer(asked):
            if lose and sent == self.after:
                raise ReplicaLostError
            yield message
            sent += 1

    async def ask_all(self, asked: Asked) -> list[Whole]:
        answers = [await whole(replica.answer(asked)) for replica in self.replicas]
        return [replace(answer, replica=f"r{n}") for n, answer in enumerate(answers)]

    async def add(self, changes: list[Asked]) -> Version:
        return self.register.add(changes)

    async def since(self, known: Version) -> tuple[Version, list[Asked]]:
        return self.register.since(known)


@asynccontextmanager
async def client_of(
    cluster: Here, keys: Keys | None = None, key: str = ""
) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of an ingress over a cluster that has just come to know it."""
    ingress = Ingress(cluster, Door(keys).namespace_of, most=100_000, attempts=3)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        response = await ingress.answer(Request(scope, receive))
        await response(scope, receive, send)

    transport = httpx.ASGITransport(app=app)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://cluster", headers=headers, timeout=60
    ) as client:
        yield client
