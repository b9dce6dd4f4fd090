"""Where the page stands: its frame for everybody, and what is in it for whoever has a key."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address

from fastapi import APIRouter, Depends, Request, Response

from promptcache.errors import valid
from promptcache.html import CSS, Html
from promptcache.server.engines import Engines
from promptcache.server.failures import RefusedError
from promptcache.server.page.history import Histories
from promptcache.server.page.overview import Shared, overview
from promptcache.server.page.requests import request_page
from promptcache.server.page.tables import ORDERS

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""What browsers let the page do: load its own files and ask its own server, and nothing else."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
MARKUP = "text/html; charset=utf-8"
FILES = {
    "style.css": "text/css; charset=utf-8",
    "script.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
Namespace = Callable[[Request], Awaitable[str]]


class Page:
    """The page of one server. `shared` is None where there are namespaces with keys."""

    def __init__(self, engines: Engines, histories: Histories, shared: Shared | None) -> None:
        self._engines = engines
        self._histories = histories
        self._shared = shared

    def router(self, namespace: Namespace) -> APIRouter:
        """The addresses; `namespace` says whose a request is."""
        router = APIRouter()

        async def reader(request: Request, whose: str = Depends(namespace)) -> str:
            if self._shared is not None:
                check_host(request)
            return whose

        who = Depends(reader)

        @router.get("/")
        async def frame() -> Response:
            return _sent(_file("page.html"), MARKUP)

        @router.get("/page/{name}", include_in_schema=False)
        async def file(name: str) -> Response:
            if name not in FILES:
                raise RefusedError(404, f"the page has no file {name[:80]!r}", code="not_found")
            text = _file(name)
            return _sent(CSS + text if name == "style.css" else text, FILES[name])

        @router.get("/page/parts/overview")
        async def now(by: str = ORDERS[0], whose: str = who) -> Response:
            if by not in ORDERS:
                told = f"modules are not ordered by {by[:80]!r}{valid(by[:80], ORDERS)}"
                raise RefusedError(400, told, param="by", code="invalid_value")
            return _sent(await self._overview(whose, by), MARKUP)

        @router.get("/page/requests/{name}")
        async def one(name: str, whose: str = who) -> Response:
            visit = self._histories.of(whose).visit(name)
            if visit is None:
                raise RefusedError(
                    404, f"the request {name[:80]!r} is not kept here", code="request_not_found"
                )
            return _sent(await asyncio.to_thread(request_page, visit), MARKUP)

        return router

    async def _overview(self, whose: str, order: str) -> Html:
        lately = self._histories.snapshot(whose)

        def made() -> Html:
            engine = self._engines.of(whose)
            modules = engine.holdings.listed()
            return overview(
                self._engines.name, whose, lately, modules, order=order, shared=self._shared
            )

        return await asyncio.to_thread(made)


def check_host(request: Request) -> None:
    """Refuse a reader who came by a name that anyone may have made for this address.

    The pages of a site can have its name mean this machine from one moment to the next, and read
    what the browser then takes for theirs. An address, or localhost, no site can be called.
    """
    try:
        host = request.url.hostname or ""
        if host != "localhost" and not host.endswith(".localhost"):
            ip_address(host)
    except ValueError:
        given = request.headers.get("host", "")[:80]
        raise RefusedError(
            403,
            f"without --keys this page is shown at an address or at localhost only, not at "
            f"{given!r}",
            code="host_not_allowed",
        ) from None


def _file(name: str) -> str:
    return (files("promptcache.server.page") / name).read_text("utf-8")


def _sent(text: str, kind: str) -> Response:
    return Response(text, headers={**HEADERS, "Content-Type": kind})
