"""The application that Ray Serve runs: an ingress, replicas behind it, and a register beside them.

Placing, health, scaling and transport are Serve's; what the parts do is in their own files.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from ray import serve
from ray.exceptions import ObjectLostError, RayActorError
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from ray.serve.exceptions import BackPressureError
from ray.serve.handle import DeploymentHandle
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from promptcache.ray.ingress import Ingress
from promptcache.ray.register import Register
from promptcache.ray.replica import Replica
from promptcache.ray.settings import Settings
from promptcache.ray.trying import ReplicaLostError
from promptcache.ray.wire import Asked, Version, Whole, whole
from promptcache.server.door import Door
from promptcache.server.failures import RefusedError
from promptcache.server.keys import Keys

LOST = (RayActorError, ObjectLostError)
"""How Ray says that a process ended, or its machine."""
MANY = 1024
"""Requests that a process takes at once that only hands them on."""
SMALL = {"num_cpus": 0.1}
"""What such a process asks of its machine."""


def application(settings: Settings) -> Application:
    """The application. Raises OptionError for limits that let nothing through, or unreadable keys.

    What Serve's file says of the deployments `Ingress`, `Replica` and `Register` goes before what
    is said here.
    """
    limits = settings.limits
    _ = settings.options  # what cannot be is refused before anything starts
    keys = None if settings.keys is None else Keys.read(settings.keys)
    register = serve.deployment(_Register).options(
        name="Register", max_ongoing_requests=MANY, ray_actor_options=SMALL
    )
    router = RequestRouterConfig()
    if settings.routing == "modules":
        router = RequestRouterConfig(
            request_router_class="promptcache.ray.router:ModuleRouter",
            request_router_kwargs={
                "bound": settings.bound,
                "places": settings.concurrency,
                "remembered": settings.remembered,
            },
        )
    replica = serve.deployment(_Replica).options(
        name="Replica",
        max_ongoing_requests=limits.concurrency + limits.queue,
        max_queued_requests=limits.queue,
        graceful_shutdown_timeout_s=limits.timeout + 1,
        request_router_config=router,
    )
    ingress = serve.deployment(_Ingress).options(
        name="Ingress", max_ongoing_requests=MANY, ray_actor_options=SMALL
    )
    registered = register.bind()
    return ingress.bind(replica.bind(settings, keys, registered), registered, settings, keys)


class _Register:
    """The register, in a process of its own."""

    def __init__(self) -> None:
        self._register = Register()

    async def add(self, changes: list[Asked]) -> Version:
        """Take in changes."""
        return self._register.add(changes)

    async def since(self, known: Version) -> tuple[Version, list[Asked]]:
        """What came after a version."""
        return self._register.since(known)


class _Replica:
    """A replica, in a process of its own, with a model of its own."""

    def __init__(self, settings: Settings, keys: Keys | None, register: DeploymentHandle) -> None:
        from promptcache.model.load import load  # these load torch, which only replicas need
        from promptcache.server.app import create_app
        from promptcache.server.engines import Engines

        model, tokenizer = load(settings.model, device=settings.device, dtype=settings.dtype)
        engines = Engines(
            model,
            tokenizer,
            name=settings.name or settings.model,
            store=settings.tiers,
            options=settings.options,
        )
        engines.of("" if keys is None else keys.namespaces[0])  # a model that cannot be served
        app = create_app(engines, keys=keys, limits=settings.limits)
        self._store = engines.store
        plain = settings.context != "expected"
        self._replica = Replica(app, _Reached(register).since, plain=plain)

    async def answer(self, asked: Asked) -> AsyncGenerator[Message]:
        """What the server's app sends in answer."""
        async with aclosing(self._replica.answer(asked)) as messages:
            async for message in messages:
                yield message

    async def whole(self, asked: Asked) -> Whole:
        """The same, once it is there as a whole."""
        name = serve.get_replica_context().replica_id.unique_id
        return replace(await whole(self._replica.answer(asked)), replica=name)

    async def __del__(self) -> None:
        """End once everything is written; nothing was begun where `__init__` failed."""
        from promptcache.store import Tiers

        if hasattr(self, "_replica"):
            await self._replica.stop()
            if isinstance(self._store, Tiers):
                await asyncio.to_thread(self._store.flush)


class _Ingress:
    """An ingress, in a process of its own."""

    def __init__(
        self,
        replicas: DeploymentHandle,
        register: DeploymentHandle,
        settings: Settings,
        keys: Keys | None,
    ) -> None:
        self._ingress = Ingress(
            _Cluster(register, replicas),
            Door(keys).namespace_of,
            most=settings.max_body,
            attempts=settings.attempts,
        )

    async def __call__(self, request: Request) -> Response:
        """The answer to a request."""
        return await self._ingress.answer(request)


class _Reached:
    """The register, as it is reached through Serve's handle; one that was lost is asked again."""

    def __init__(self, register: DeploymentHandle) -> None:
        self._register = register

    async def add(self, changes: list[Asked]) -> Version:
        """Have the register take in changes."""
        try:
            version: Version = await self._register.add.remote(changes)
        except LOST:
            version = await self._register.add.remote(changes)
        return version

    async def since(self, known: Version) -> tuple[Version, list[Asked]]:
        """What the register has taken in after a version."""
        try:
            news: tuple[Version, list[Asked]] = await self._register.since.remote(known)
        except LOST:
            news = await self._register.since.remote(known)
        return news


class _Cluster(_Reached):
    """The replicas and the register, as they are reached through Serve's handles."""

    def __init__(self, register: DeploymentHandle, replicas: DeploymentHandle) -> None:
        super().__init__(register)
        self._replicas = replicas

    async def ask(self, asked: Asked) -> AsyncGenerator[Message]:
        """What the replica sends that the router chooses."""
        response = self._replicas.options(stream=True, method_name="answer").remote(asked)
        ended = False
        try:
            async for message in response:
                yield message
            ended = True
        except LOST as error:
            ended = True
            raise ReplicaLostError from error
        except BackPressureError as error:
            ended = True
            raise RefusedError(
                429,
                "more requests wait for a replica than this service takes; try again in 1 s",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": "1"},
            ) from error
        finally:
            if not ended:
                response.cancel()

    async def ask_all(self, asked: Asked) -> list[Whole]:
        """The answers of every replica that there is now and that is not lost meanwhile."""
        asking = self._replicas.broadcast("whole", asked)
        answers = await asking.results_async(return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, LOST):
                raise answer
        return [answer for answer in answers if isinstance(answer, Whole)]
