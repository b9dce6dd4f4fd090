"""Errors as OpenAI's clients read them: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from promptcache.errors import (
    ModelError,
    OutOfMemoryError,
    PromptCacheError,
    StoreError,
    UnsupportedModelError,
    code_of,
)
from promptcache.server.visits import visit_of

log = logging.getLogger("promptcache.server")

INVALID = "invalid_request_error"
SERVER = "server_error"
NOBODY = 499
"""The status of an answer that nobody waits for any more."""
_OF_HTTP = {
    404: ("there is nothing at this address; docs/serving.md lists what there is", "not_found"),
    405: ("this address does not take this method", "method_not_allowed"),
}


class Json(Response):
    """JSON in ASCII, so that half of a surrogate pair that a client sent can be shown to it."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes of `content`."""
        return as_json(content)


def as_json(content: Any) -> bytes:
    """A value as JSON on one line, in ASCII."""
    return json.dumps(content, separators=(",", ":")).encode("ascii")


class RefusedError(Exception):
    """A request that is not served: what the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.kind = status, message, kind
        self.code, self.param, self.headers = code, param, dict(headers or {})

    @property
    def error(self) -> dict[str, str | None]:
        """What the client is told, by OpenAI's names."""
        return {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}

    @property
    def body(self) -> dict[str, Any]:
        """The error in OpenAI's form."""
        return {"error": self.error}

    def response(self) -> Json:
        """The whole response."""
        return Json(self.body, self.status, self.headers)


def refusal_of(error: BaseException) -> RefusedError:
    """What a client is told of an error; one that no user can cause is logged."""
    if isinstance(error, RefusedError):
        return error
    if isinstance(error, OutOfMemoryError):
        return RefusedError(503, str(error), kind=SERVER, code="out_of_memory")
    if isinstance(error, UnsupportedModelError):
        return RefusedError(400, str(error), code=code_of(type(error)))
    if isinstance(error, ModelError | StoreError):
        return RefusedError(500, str(error), kind=SERVER, code=code_of(type(error)))
    if isinstance(error, PromptCacheError):
        return RefusedError(400, str(error), code=code_of(type(error)))
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        name = str(first["loc"][-1])
        said = f"{name}={first['input']!r:.80}: {first['msg'][0].lower()}{first['msg'][1:]}"
        return RefusedError(400, said, param=name, code="invalid_value")
    if isinstance(error, HTTPException):
        message, code = _OF_HTTP.get(error.status_code, (str(error.detail), None))
        return RefusedError(error.status_code, message, code=code, headers=error.headers)
    log.error("a request failed", exc_info=error)
    return RefusedError(
        500, "the server failed; its log says why", kind=SERVER, code="internal_error"
    )


def answer_failures(app: FastAPI) -> None:
    """Have an app answer every error in OpenAI's form."""

    async def refused(request: Request, error: Exception) -> Response:
        refusal = refusal_of(error)
        visit_of(request).error = refusal.error
        return refusal.response()

    async def nobody(request: Request, error: Exception) -> Response:
        return Response(status_code=NOBODY)

    for kind in (RefusedError, PromptCacheError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, refused)
    app.add_exception_handler(ClientDisconnect, nobody)
