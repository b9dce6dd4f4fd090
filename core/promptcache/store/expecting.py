"""Room for states that are being encoded: a budget holds for them, too, before a store has them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from promptcache.store.protocol import Store


@runtime_checkable
class Expecting(Protocol):
    """A store that can leave memory free; those that come with promptcache do, if they take any."""

    def expect(self, nbytes: int) -> bool:
        """Leave so many bytes free; False, and nothing is evicted, for more than it could take."""

    def expect_no_more(self, nbytes: int) -> None:
        """Leave so many bytes less free: they come now, or never."""


@contextmanager
def room_for(store: Store, sizes: Iterable[int]) -> Iterator[Callable[[], None]]:
    """Have room for entries of these bytes; what it gives is called before each is put, in turn."""
    if not isinstance(store, Expecting):
        yield lambda: None
        return
    expected = deque(size if store.expect(size) else 0 for size in sizes)
    try:
        yield lambda: store.expect_no_more(expected.popleft())
    finally:
        store.expect_no_more(sum(expected))
