"""Iterating in a thread: order, errors, and readers that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from threading import Event, current_thread

import pytest

from promptcache.background import in_thread


class Source:
    """Counts, and says whether it was closed."""

    def __init__(self, stop: int = 10_000_000) -> None:
        self.stop = stop
        self.closed = Event()
        self.threads: set[str] = set()

    def __call__(self) -> Generator[int]:
        try:
            for number in range(self.stop):
                self.threads.add(current_thread().name)
                yield number
        finally:
            self.closed.set()


async def test_items_come_in_order_from_one_other_thread() -> None:
    source = Source(1000)
    assert [item async for item in in_thread(source)] == list(range(1000))
    assert len(source.threads) == 1
    assert current_thread().name not in source.threads


async def test_an_error_reaches_the_reader_after_the_items_before_it() -> None:
    def broken() -> Generator[int]:
        yield 1
        raise ValueError("no more")

    reading = in_thread(broken)
    assert await anext(reading) == 1
    with pytest.raises(ValueError, match="no more"):
        await anext(reading)


async def test_a_generator_is_closed_when_its_reader_leaves() -> None:
    source = Source()
    reading = in_thread(source)
    async for _ in reading:
        break
    await reading.aclose()  # type: ignore[attr-defined]
    assert await asyncio.to_thread(source.closed.wait, 10)


async def test_a_generator_is_closed_when_its_reader_is_cancelled() -> None:
    source = Source()

    async def read() -> None:
        async for _ in in_thread(source):
            pass

    task = asyncio.create_task(read())
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.to_thread(source.closed.wait, 10)
