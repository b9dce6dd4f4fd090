"""Which modules are being encoded now, so that two requests that miss one encode it once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import Future
from threading import Lock
from typing import Generic, TypeVar

from promptcache.store.forks import after_fork

T = TypeVar("T")
LATELY = 4096
"""Keys of which it is known when their encoding ended."""


class Claims(Generic[T]):
    """Futures of what is being made, by key. Safe to use from several threads.

    What its parent was making when a process was forked, the process makes itself.
    """

    def __init__(self) -> None:
        self._renew()
        self._ended = 0
        after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = Lock()
        self._in_flight: dict[str, Future[T | None]] = {}
        self._lately: dict[str, int] = {}
        """Keys whose making ended, each with how many had ended before."""

    def now(self) -> int:
        """The moment: how many claims have ended."""
        return self._ended

    def claim(self, key: str, looked: int) -> tuple[Future[T | None], bool] | None:
        """The future of what was not in the store at the moment `looked`, and whether it is the
        caller's to fulfil and to `release`.

        None where another has ended since then: it is in the store by now, or has failed.
        """
        with self._lock:
            if key in self._in_flight:
                return self._in_flight[key], False
            if self._lately.get(key, -1) >= looked:
                return None
            self._in_flight[key] = mine = Future[T | None]()
            return mine, True

    def release(self, claimed: Iterable[tuple[str, Future[T | None]]]) -> None:
        """End claims; those that are not fulfilled become None, and others may make them."""
        for key, future in claimed:
            with self._lock:
                self._in_flight.pop(key, None)
                self._lately.pop(key, None)
                self._lately[key], self._ended = self._ended, self._ended + 1
                if len(self._lately) > LATELY:
                    del self._lately[next(iter(self._lately))]
            if not future.done():
                future.set_result(None)
