"""Iterate in a thread, so that an event loop is free between two items.

Knows nothing of models.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


async def in_thread(make: Callable[[], Generator[T]]) -> AsyncGenerator[T]:
    """The items of a generator that is made, run and closed in one thread.

    When the reader leaves or is cancelled, the generator is closed at its next item.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | _End] = asyncio.Queue()
    reader_left = Event()

    def send(item: T | _End) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, item)

    def run() -> None:
        end = _End()
        try:
            if reader_left.is_set():  # while this waited for a thread
                return
            with closing(make()) as items:
                for item in items:
                    if reader_left.is_set():
                        return
                    send(item)
        except BaseException as error:
            end = _End(error)
        finally:
            send(end)

    # A task of its own: cancelling the reader does not wait for the model's present step.
    thread = asyncio.ensure_future(asyncio.to_thread(run))
    try:
        while not isinstance(item := await arrived.get(), _End):
            yield item
        await thread
        if item.error is not None:
            raise item.error
    finally:
        reader_left.set()
