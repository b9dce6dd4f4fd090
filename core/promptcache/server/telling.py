"""What clients in other processes have to know of an engine: its traits, tokens, documents."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from promptcache.server.bodies import ForgetBody, TextBody, TokensBody
from promptcache.server.engines import Engines
from promptcache.server.failures import Json, RefusedError
from promptcache.server.forms import Form
from promptcache.server.limits import Limits
from promptcache.server.reading import body_of

Namespace = Callable[[Request], Awaitable[str]]


class Telling:
    """Tells clients what they cannot find out without the model's tokenizer and register."""

    def __init__(self, engines: Engines, limits: Limits) -> None:
        self._engines = engines
        self._limits = limits

    def router(self, namespace: Namespace) -> APIRouter:
        """The addresses under /v1; `namespace` says whose a request is."""
        router = APIRouter(prefix="/v1")
        who, most = Depends(namespace), self._limits.body
        tokens_body, text_body, forget_body = (
            Depends(body_of(kind, most)) for kind in (TokensBody, TextBody, ForgetBody)
        )

        @router.get("/engine")
        async def engine(whose: str = who) -> Response:
            return Json(await asyncio.to_thread(self._about, whose))

        @router.post("/tokens")
        async def tokens(whose: str = who, body: TokensBody = tokens_body) -> Response:
            return Json(await asyncio.to_thread(self._tokens, whose, body))

        @router.post("/documents/find")
        async def find(whose: str = who, body: TextBody = text_body) -> Response:
            found = await asyncio.to_thread(self._found, whose, body.text)
            return Json({"documents": found})

        @router.post("/documents/forget")
        async def forget(whose: str = who, body: ForgetBody = forget_body) -> Response:
            known = await asyncio.to_thread(self._forget, whose, body.documents)
            return Json({"forgotten": known})

        return router

    def _about(self, whose: str) -> Form:
        engine = self._engines.of(whose)
        windows = [n for n in (engine.window, self._limits.window) if n is not None]
        return {
            "object": "engine",
            "name": self._engines.name,
            "window": min(windows, default=None),
            "new_tokens": engine.default_new_tokens,
            "chat_template": engine.has_chat_template,
            "takes_system": engine.has_chat_template and engine.takes_system,
            "takes_tools": engine.takes_tools,
            "control_tokens": list(engine.control_tokens),
            "reuse": str(engine.reuse),
            "fingerprint": engine.fingerprint,
        }

    def _found(self, whose: str, text: str) -> Sequence[str]:
        return self._engines.of(whose).documents_in(text)

    def _forget(self, whose: str, documents: Sequence[str]) -> int:
        return self._engines.of(whose).forget_documents(documents)

    def _tokens(self, whose: str, body: TokensBody) -> Any:
        engine = self._engines.of(whose)
        if body.text is not None and body.messages is None:
            return {"tokens": engine.token_ids(body.text)}
        if body.messages is not None and body.text is None:
            return {"count": engine.count_message_tokens(body.messages)}
        raise RefusedError(400, "give either text or messages", code="invalid_value")
