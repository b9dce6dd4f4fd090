"""Another replica where one is lost: an answer that has not begun is asked for again.

Knows ASGI's messages; what asks and how it fails is handed in.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from starlette.types import Message

from promptcache.server.failures import SERVER, RefusedError, as_json
from promptcache.server.sending import NDJSON

log = logging.getLogger("promptcache.ray")


class ReplicaLostError(Exception):
    """A replica ended before it had answered."""


async def persistently(
    ask: Callable[[], AsyncGenerator[Message]], attempts: int
) -> AsyncGenerator[Message]:
    """What `ask()` sends, asked again while that is lost, `attempts` times at most.

    An answer whose length is known is sent when all of it is there. A stream is sent as it comes:
    one that is lost after it began ends with an error, as any stream that fails.
    Raises RefusedError when every attempt is lost.
    """
    for attempt in range(1, attempts + 1):
        held: list[Message] = []
        begun = False
        try:
            async with aclosing(ask()) as messages:
                async for message in messages:
                    held.append(message)
                    if len(held) > 1 and not has_length(held[0]):
                        for ready in held if not begun else held[1:]:
                            yield ready
                        begun, held = True, held[:1]
            for ready in () if begun else held:
                yield ready
            return
        except ReplicaLostError:
            log.warning("a replica was lost with a request, for the %d. time", attempt)
            if begun:
                yield ending_of(held[0])
                return
    raise lost(attempts)


def lost(attempts: int) -> RefusedError:
    """What a client is told whose request no replica could answer."""
    return RefusedError(
        503,
        f"the request was lost with {attempts} replicas, one after the other; try again",
        kind=SERVER,
        code="replica_lost",
        headers={"Retry-After": "1"},
    )


def has_length(start: Message) -> bool:
    """Whether an answer that begins so says how long it is."""
    return any(name.lower() == b"content-length" for name, _ in start["headers"])


def ending_of(start: Message) -> Message:
    """The end of a stream whose replica was lost, in the stream's own form."""
    body = as_json(lost(1).body)
    kind = dict(start["headers"]).get(b"content-type", b"").decode()
    if not kind.startswith(NDJSON):
        body = b"data: " + body + b"\n\ndata: [DONE]\n"
    return {"type": "http.response.body", "body": body + b"\n", "more_body": False}
