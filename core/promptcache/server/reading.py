"""Bodies read from requests: within a limit, checked field by field, refused in a sentence."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import Request
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from promptcache.errors import valid
from promptcache.model.generation import shown
from promptcache.server.bodies import Body
from promptcache.server.failures import RefusedError

B = TypeVar("B", bound=Body)


def body_of(kind: type[B], most: int) -> Callable[[Request], Awaitable[B]]:
    """What reads a request's body as one of a kind; at most so many bytes."""

    async def read(request: Request) -> B:
        try:
            return kind.model_validate_json(await bytes_of(request, most))
        except ValidationError as error:
            raise _refusal(error.errors(include_url=False)[0], kind) from None

    return read


async def bytes_of(request: Request, most: int) -> bytes:
    """A request's body. Raises RefusedError for more than `most` bytes, without reading on."""
    told = request.headers.get("content-length", "")
    parts: list[bytes] = []
    size = int(told) if told.isdecimal() and told.isascii() and len(told) < 20 else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if size > most:
        raise RefusedError(
            413,
            f"the body is longer than {most:,} bytes, the most that this server takes",
            code="body_too_large",
            headers={"Connection": "close"},
        )
    return b"".join(parts)


def _refusal(error: ErrorDetails, kind: type[Body]) -> RefusedError:
    """The first of what pydantic finds wrong, in a sentence."""
    if error["type"] == "json_invalid":
        return RefusedError(
            400, f"the body is no JSON: {error['ctx']['error']}", code="invalid_json"
        )
    place = [str(part) for part in error["loc"]]
    if not place:
        return RefusedError(400, "the body is no JSON object", code="invalid_body")
    field = place[0]
    if error["type"] == "extra_forbidden":
        where = ".".join(place)
        names = [f.alias or name for name, f in kind.model_fields.items()]
        hint = valid(field, names, what="fields") if len(place) == 1 else ""
        message, code = f"unknown field {where[:80]!r}{hint}", "unknown_field"
    elif error["type"] == "missing":
        message, code = f"the field {'.'.join(place)} is missing", "missing_field"
    elif error["type"] == "unsupported":
        message, code = f"{field}={shown(error['input'])} {error['msg']}", "unsupported"
    else:
        said = error["msg"][0].lower() + error["msg"][1:]
        message, code = f"{field}: {said}; it is {shown(error['input'])}", "invalid_value"
    return RefusedError(400, message, param=field[:80], code=code)
