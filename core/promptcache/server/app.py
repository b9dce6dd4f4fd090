"""The server's app: what stands at which address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST

from promptcache.server.answers import Answers
from promptcache.server.door import METRICS, Door
from promptcache.server.engines import Engines
from promptcache.server.failures import Json, answer_failures
from promptcache.server.gate import Gate
from promptcache.server.keeping import Keeping
from promptcache.server.keys import Keys
from promptcache.server.limits import Limits
from promptcache.server.metrics import Metrics
from promptcache.server.page.history import Histories
from promptcache.server.page.overview import Shared
from promptcache.server.page.routes import Page
from promptcache.server.pinning import Pinning
from promptcache.server.serving import Serving
from promptcache.server.telling import Telling
from promptcache.server.visits import Visiting

OTHERS = 8
"""Threads beside those that run the model: for lists, deletions and file reads."""


def create_app(
    engines: Engines, *, keys: Keys | None = None, limits: Limits | None = None
) -> FastAPI:
    """The app over these engines. Without `keys` whoever can reach it may ask."""
    limits = limits or Limits()
    gate = Gate(limits.concurrency, limits.queue)
    metrics = Metrics(gate, engines.store)
    histories = Histories(limits.recent)
    door = Door(keys)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        threads = ThreadPoolExecutor(limits.concurrency + OTHERS, "promptcache-server")
        asyncio.get_running_loop().set_default_executor(threads)
        yield

    app = FastAPI(
        title="promptcache",
        lifespan=lifespan,
        openapi_url=None,
        redirect_slashes=False,
        default_response_class=Json,
    )
    app.add_middleware(Visiting, begun=histories.begun, ended=(metrics.count, histories.ended))
    answer_failures(app)
    serving = Serving(gate, limits.timeout)
    app.include_router(Answers(engines, serving, limits).router(door))
    app.include_router(Keeping(engines, serving, limits).router(door))
    app.include_router(Telling(engines, limits).router(door))
    owners = {""} if keys is None else {*keys.namespaces} - {METRICS}
    app.include_router(Pinning(engines, max(1, len(owners))).router(door))
    shared = Shared(gate, engines.store) if keys is None else None
    app.include_router(Page(engines, histories, shared).router(door))

    @app.get("/healthz")
    async def healthz() -> Response:
        return Json({"status": "ok"})

    @app.get("/metrics", dependencies=[Depends(door.metrics)])
    async def figures() -> Response:
        page = await asyncio.to_thread(metrics.page)
        return Response(page, headers={"Content-Type": CONTENT_TYPE_LATEST})

    return app
