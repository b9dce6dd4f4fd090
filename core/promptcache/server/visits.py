"""What is known of a request while it is served: told by whoever learns it, read at its end."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from uuid import uuid4

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from promptcache.reply import Reply

KEY = "promptcache.visit"
"""What a visit is called in the scope of its request."""
ELSEWHERE = "other"
"""The route of requests to no address that there is."""
LONGEST = 200
"""Characters of a path that are kept."""


@dataclass(slots=True, eq=False)
class Visit:
    """One request: where to, when (seconds since 1970), and by and by all else about it.

    `namespace` is None until its key is known; `error` is what its client was told, in OpenAI's
    form; `seconds` is how long it took to the last byte of its response.
    """

    method: str
    path: str
    id: str = field(default_factory=lambda: uuid4().hex)
    at: float = field(default_factory=time.time)
    route: str = ELSEWHERE
    namespace: str | None = None
    reply: Reply | None = None
    error: Mapping[str, str | None] | None = None
    status: int = 500
    seconds: float = 0.0


Watch = Callable[[Visit], None]


def visit_of(request: Request) -> Visit:
    """The visit that a request is."""
    visit = request.scope[KEY]
    assert isinstance(visit, Visit)
    return visit


class Visiting:
    """Middleware that follows every request from its beginning to its end, and names it.

    The response has that name as `X-Request-Id`.
    """

    def __init__(self, app: ASGIApp, begun: Watch, ended: Sequence[Watch]) -> None:
        self._app = app
        self._begun = begun
        self._ended = tuple(ended)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = scope[KEY] = Visit(scope["method"], scope["path"][:LONGEST])
        began = perf_counter()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                visit.status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = visit.id
            await send(message)

        self._begun(visit)
        try:
            await self._app(scope, receive, named)
        finally:
            visit.route = getattr(scope.get("route"), "path", ELSEWHERE)
            visit.seconds = perf_counter() - began
            for tell in self._ended:
                tell(visit)
