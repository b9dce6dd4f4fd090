"""Iterate in a thread, so that an event loop is free between two items.

Knows nothing of models.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import aclosing, closing
from dataclasses import dataclass
from threading import Event
from typing import TypeVar

T = TypeVar("T")
Send = Callable[[T], None]
"""Hands an item to whoever waits for it. Raises ReaderLeftError when nobody does any more."""


class ReaderLeftError(Exception):
    """Whoever waited for the items has left."""


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None = None


async def sent(
    work: Callable[[Send[T]], None], done: Callable[[], None] | None = None
) -> AsyncGenerator[T]:
    """What `work` sends, in its order; it is run in one thread.

    When the reader leaves or is cancelled, the next item that is sent raises ReaderLeftError there.
    `done` is called in the event loop when the thread is done, however it ended.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[T | _End] = asyncio.Queue()
    reader_left = Event()

    def hand_over(item: T | _End) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, item)

    def send(item: T) -> None:
        if reader_left.is_set():
            raise ReaderLeftError
        hand_over(item)

    def run() -> None:
        end = _End()
        try:
            if not reader_left.is_set():  # while this waited for a thread
                work(send)
        except ReaderLeftError:
            pass
        except BaseException as error:
            end = _End(error)
        finally:
            hand_over(end)

    # A task of its own: cancelling the reader does not wait for the model's present step.
    thread = asyncio.ensure_future(asyncio.to_thread(run))
    if done is not None:
        thread.add_done_callback(lambda _: done())
    try:
        while not isinstance(item := await arrived.get(), _End):
            yield item
        await thread
        if item.error is not None:
            raise item.error
    finally:
        reader_left.set()


async def in_thread(make: Callable[[], Generator[T]]) -> AsyncGenerator[T]:
    """The items of a generator that is made, run and closed in one thread.

    When the reader leaves or is cancelled, the generator is closed at its next item.
    """

    def work(send: Send[T]) -> None:
        with closing(make()) as items:
            for item in items:
                send(item)

    async with aclosing(sent(work)) as items:
        async for item in items:
            yield item
