"""Streams of responses that end when their reader leaves.

LlamaIndex's callbacks pass a stream on without closing it, and their handlers may keep the
exception that stands for a reader's leaving, and in its traceback the stream itself. So it would
go on generating, or hold its attention states, for nobody.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing, closing
from typing import TypeVar

T = TypeVar("T")


def until_left(seen: Generator[T], pieces: Generator[T]) -> Generator[T]:
    """What callbacks have made of `pieces`; with the reader, both end."""
    with closing(pieces):
        yield from seen


async def auntil_left(seen: AsyncGenerator[T], pieces: AsyncGenerator[T]) -> AsyncGenerator[T]:
    """`until_left` in an event loop."""
    async with aclosing(pieces), aclosing(seen):
        async for piece in seen:
            yield piece
