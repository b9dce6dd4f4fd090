"""Where a namespace says what may be reused, sees what it has of it, and forgets that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from promptcache.background import Send
from promptcache.holdings import HeldModule
from promptcache.pml import parse_schema
from promptcache.server.bodies import DocumentsBody, framed
from promptcache.server.engines import Engines
from promptcache.server.failures import Json, RefusedError
from promptcache.server.forms import Form
from promptcache.server.limits import Limits
from promptcache.server.reading import body_of, bytes_of
from promptcache.server.sending import NDJSON, last_of, streamed, unless_left
from promptcache.server.serving import Serving
from promptcache.shelf import CHUNK

Namespace = Callable[[Request], Awaitable[str]]


class Keeping:
    """Schemas, documents and modules of the namespaces of a server."""

    def __init__(self, engines: Engines, serving: Serving, limits: Limits) -> None:
        self._engines = engines
        self._serving = serving
        self._limits = limits

    def router(self, namespace: Namespace) -> APIRouter:
        """The addresses under /v1; `namespace` says whose a request is."""
        router = APIRouter(prefix="/v1")
        who, most = Depends(namespace), self._limits.body
        documents_body = Depends(body_of(DocumentsBody, most))

        @router.put("/schemas/{name}")
        async def put_schema(
            request: Request,
            name: str,
            encode: bool = True,
            context: str | None = None,
            whose: str = who,
        ) -> Response:
            markup = _text(await bytes_of(request, most))

            def work(send: Send[Form]) -> None:
                schema = parse_schema(markup)
                if schema.name != name:
                    raise RefusedError(
                        400,
                        f"the schema is called {schema.name!r}, and was put at {name[:80]!r}",
                        param="name",
                        code="wrong_name",
                    )
                engine = self._engines.of(whose)
                engine.add_schema(schema, encode=encode, context=context)
                held = [m for m in engine.holdings.listed() if m.name.startswith(f"{name}.")]
                send({"object": "schema", "name": name, "modules": [_module(m) for m in held]})

            return Json(await unless_left(request, last_of(self._serving.items(work))))

        @router.post("/documents")
        async def documents(
            request: Request, whose: str = who, body: DocumentsBody = documents_body
        ) -> Response:
            def work(send: Send[Form]) -> None:
                self._encode(whose, body, send)

            items = self._serving.items(work)
            if body.progress:
                return await streamed(request, items, NDJSON)
            return Json(await unless_left(request, last_of(items)))

        @router.get("/modules")
        async def modules(whose: str = who) -> Response:
            listed = await asyncio.to_thread(self._listed, whose)
            return Json({"object": "list", "data": [_module(each) for each in listed]})

        @router.delete("/modules")
        async def delete_all(whose: str = who) -> Response:
            deleted = await asyncio.to_thread(self._forget_all, whose)
            return Json({"object": "list", "deleted": deleted})

        @router.delete("/modules/{name:path}")
        async def delete(name: str, whose: str = who) -> Response:
            engine = await asyncio.to_thread(self._engines.of, whose)
            if not await asyncio.to_thread(engine.holdings.forget, name):
                raise RefusedError(
                    404,
                    f"there is no module {name[:80]!r}; GET /v1/modules lists those that there are",
                    param="name",
                    code="module_not_found",
                )
            return Json({"object": "module", "name": name, "deleted": True})

        return router

    def _encode(self, whose: str, body: DocumentsBody, send: Send[Form]) -> None:
        """Register documents and encode them, and send how far that is, and last what was done."""
        given = body.documents
        texts = list(given.values()) if isinstance(given, dict) else given
        engine = self._engines.of(whose)
        cached = engine.cache_documents(
            _told(texts, send),
            schema=body.schema_name,
            preamble=None if body.preamble is None else framed(body.preamble),
            context=body.context,
            progress=False,
        )
        if isinstance(given, dict):
            engine.cache_documents(given, progress=False)  # their names; all are known
        done = {"done": len(texts), "total": len(texts)}
        send({"object": "documents", **done, **asdict(cached)})

    def _listed(self, whose: str) -> Sequence[HeldModule]:
        return self._engines.of(whose).holdings.listed()

    def _forget_all(self, whose: str) -> int:
        holdings = self._engines.of(whose).holdings
        return sum(holdings.forget(name) for name in {m.name for m in holdings.listed()})


def _told(texts: Sequence[str], send: Send[Form]) -> Iterator[str]:
    """The texts; whenever some more are encoded, that is sent."""
    for number, text in enumerate(texts):
        if number % CHUNK == 0:
            send({"object": "progress", "done": number, "total": len(texts)})
        yield text


def _module(module: HeldModule) -> dict[str, Any]:
    return {"object": "module", **asdict(module)}


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise RefusedError(
            400, f"the schema is not UTF-8: {error.reason} at byte {error.start}", code="not_utf8"
        ) from None
