"""Where a namespace says which of its modules stay, whoever else asks for room.

What all pins together may take is half of the fastest tier, each namespace an equal part of it:
memory is shared, and pins are the one thing that nobody else's requests can undo.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from threading import Lock
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from promptcache.bench.tables import size
from promptcache.holdings import Holdings
from promptcache.library import called
from promptcache.server.engines import Engines
from promptcache.server.failures import Json, RefusedError
from promptcache.store.places import tiers_of

PART = 0.5
"""Of the fastest tier's budget, for the pins of all namespaces."""
Namespace = Callable[[Request], Awaitable[str]]


class Pinning:
    """Pins of the modules of a server with so many namespaces."""

    def __init__(self, engines: Engines, namespaces: int) -> None:
        self._engines = engines
        self._most = int(PART * tiers_of(engines.store)[0].budget / namespaces)
        self._lock = Lock()

    def router(self, namespace: Namespace) -> APIRouter:
        """The addresses under /v1; `namespace` says whose a request is."""
        router = APIRouter(prefix="/v1/modules")
        who = Depends(namespace)

        @router.post("/{name:path}/pin")
        async def pin(name: str, whose: str = who) -> Response:
            return Json(await asyncio.to_thread(self._pin, whose, name))

        @router.post("/{name:path}/unpin")
        async def unpin(name: str, whose: str = who) -> Response:
            return Json(await asyncio.to_thread(self._unpin, whose, name))

        return router

    def _pin(self, whose: str, name: str) -> dict[str, Any]:
        holdings = self._engines.of(whose).holdings
        with self._lock:
            if not holdings.load(name):
                raise _unknown(name)
            taken = _taken(holdings, name)
            if taken > self._most:
                raise RefusedError(
                    409,
                    f"with {name[:80]!r} the pinned modules would take {size(taken)}; a namespace "
                    f"may pin {size(self._most)} here, so unpin others first",
                    param="name",
                    code="too_much_pinned",
                )
            holdings.pin(name)
        return {"object": "module", "name": name, "pinned": True}

    def _unpin(self, whose: str, name: str) -> dict[str, Any]:
        if not self._engines.of(whose).holdings.unpin(name):
            raise _unknown(name)
        return {"object": "module", "name": name, "pinned": False}


def _taken(holdings: Holdings, name: str) -> int:
    """The bytes of what is pinned, and of the modules of this name."""
    return sum(
        max(module.places.values(), default=0)
        for module in holdings.listed()
        if module.pinned or called(module.name, name)
    )


def _unknown(name: str) -> RefusedError:
    return RefusedError(
        404,
        f"there are no states of a module {name[:80]!r} to pin; GET /v1/modules lists those that "
        "there are",
        param="name",
        code="module_not_found",
    )
