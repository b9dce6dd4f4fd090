"""Forgetting while others look: what was found before it was deleted is not kept after that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import RLock

from promptcache.store.forks import after_fork


class Forgetting:
    """Which keys are being deleted, or were while someone looked for states who looks still."""

    def __init__(self) -> None:
        self._renew()
        after_fork(self._renew)

    def _renew(self) -> None:
        self._lock = RLock()
        self._looking = 0
        self._deleting: Counter[str] = Counter()
        self._gone: set[str] = set()

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look for states: what is deleted from now on is not kept by `keep`."""
        with self._lock:
            self._looking += 1
        try:
            yield
        finally:
            with self._lock:
                self._looking -= 1
                if not self._looking:
                    self._gone.clear()

    @contextmanager
    def deleting(self, key: str) -> Iterator[None]:
        """Delete what is under a key."""
        with self._lock:
            self._deleting[key] += 1
            self._gone.add(key)
        try:
            yield
        finally:
            with self._lock:
                self._deleting[key] -= 1
                if not self._deleting[key]:
                    del self._deleting[key]
                if not self._looking:
                    self._gone.clear()

    def keep(self, key: str, put: Callable[[], object]) -> None:
        """Let `put` keep what was found under a key, unless it was deleted meanwhile."""
        with self._lock:
            if key not in self._deleting and key not in self._gone:
                put()

    def made(self, key: str) -> None:
        """What is under the key from now on was made anew."""
        with self._lock:
            self._gone.discard(key)
