"""Where answers are asked for: chats, completions and PML, at once or as they come."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from promptcache.errors import valid
from promptcache.pml import parse_schema
from promptcache.reply import Reply
from promptcache.server.bodies import ChatBody, CompletionBody, Generation, PMLBody
from promptcache.server.engines import Engines
from promptcache.server.failures import Json, RefusedError
from promptcache.server.forms import Answer, Form, ours
from promptcache.server.limits import Limits
from promptcache.server.reading import body_of
from promptcache.server.sending import SSE, last_of, streamed, unless_left
from promptcache.server.serving import Serving
from promptcache.server.visits import visit_of
from promptcache.stream import Stream

Namespace = Callable[[Request], Awaitable[str]]
"""Says whose a request is."""
Ask = Callable[[dict[str, Any]], Stream]
"""Asks the engine, with some options more."""
Items = AsyncGenerator[str | Reply]


class Answers:
    """Answers requests by the engines; each reply is noted in its request's visit."""

    def __init__(self, engines: Engines, serving: Serving, limits: Limits) -> None:
        self._engines = engines
        self._serving = serving
        self._limits = limits

    def router(self, namespace: Namespace) -> APIRouter:
        """The addresses under /v1."""
        router = APIRouter(prefix="/v1", dependencies=[Depends(namespace)])
        who = Depends(namespace)
        chat_body, completion_body, pml_body = (
            Depends(body_of(kind, self._limits.body))
            for kind in (ChatBody, CompletionBody, PMLBody)
        )

        @router.post("/chat/completions")
        async def chat(request: Request, whose: str = who, body: ChatBody = chat_body) -> Response:
            options, markup = self._options(body), body.markup()

            def ask(more: dict[str, Any]) -> Stream:
                engine = self._engines.of(whose)
                if markup is not None:
                    return engine.stream(markup, **options, **more)
                return engine.stream_messages(body.messages, **options, **more)

            return await self._answer(request, body, ask, chat=True)

        @router.post("/completions")
        async def complete(
            request: Request, whose: str = who, body: CompletionBody = completion_body
        ) -> Response:
            options, text = self._options(body), body.text()

            def ask(more: dict[str, Any]) -> Stream:
                return self._engines.of(whose).stream_text(text, **options, **more)

            return await self._answer(request, body, ask, chat=False)

        @router.post("/pml")
        async def pml(request: Request, whose: str = who, body: PMLBody = pml_body) -> Response:
            options, own = self._options(body), body.own_schema

            def ask(more: dict[str, Any]) -> Stream:
                schema = None if own is None else parse_schema(own)
                return self._engines.of(whose).stream(
                    body.prompt, schema=schema, documents=body.documents, **options, **more
                )

            items = self._noted(request, ask)
            if body.stream:
                return await streamed(request, _our_forms(items), SSE)
            return Json(ours(await _whole(request, items)))

        @router.get("/models")
        async def models() -> Response:
            return Json({"object": "list", "data": [self._model()]})

        @router.get("/models/{name:path}")
        async def model(name: str) -> Response:
            self._check_model(name)
            return Json(self._model())

        return router

    async def _answer(
        self, request: Request, body: Generation, ask: Ask, *, chat: bool
    ) -> Response:
        """The answer in OpenAI's form, whole or as it comes."""
        answer = Answer(self._engines.name, chat, body.trace)
        items = self._noted(request, ask)
        if not body.stream:
            return Json(answer.whole(await _whole(request, items)))
        usage = body.stream_options is not None and body.stream_options.include_usage
        return await streamed(request, _forms(items, answer, usage=usage), SSE)

    async def _noted(self, request: Request, ask: Ask) -> Items:
        async with aclosing(self._serving.answers(ask)) as items:
            async for item in items:
                if isinstance(item, Reply):
                    visit_of(request).reply = item
                yield item

    def _options(self, body: Generation) -> dict[str, Any]:
        """The engine's options for a request. Raises RefusedError for another model than ours."""
        self._check_model(body.model)
        windows = [n for n in (body.window, self._limits.window) if n is not None]
        return {**body.options(), **({"window": min(windows)} if windows else {})}

    def _check_model(self, name: str | None) -> None:
        if name is not None and name != self._engines.name:
            known = valid(name[:80], [self._engines.name], what="models")
            raise RefusedError(
                404,
                f"there is no model {name[:80]!r}{known}",
                param="model",
                code="model_not_found",
            )

    def _model(self) -> Form:
        return {
            "id": self._engines.name,
            "object": "model",
            "created": 0,
            "owned_by": "promptcache",
        }


async def _whole(request: Request, items: Items) -> Reply:
    reply = await unless_left(request, last_of(items))
    assert isinstance(reply, Reply)
    return reply


async def _forms(items: Items, answer: Answer, *, usage: bool) -> AsyncGenerator[Form]:
    """The chunks of an answer in OpenAI's form."""
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Reply):
                forms = answer.last(item, usage=usage)
            else:
                forms = [answer.piece(item)] if item else answer.first()
            for form in forms:
                yield form


async def _our_forms(items: Items) -> AsyncGenerator[Form]:
    """The pieces of an answer, and last all there is to know about it."""
    async with aclosing(items):
        async for item in items:
            if isinstance(item, Reply):
                yield ours(item)
            elif item:
                yield {"delta": item}
