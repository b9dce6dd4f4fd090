"""When to ask something that fails again: not with every request, and rarer as it goes on."""

from __future__ import annotations

import time

from promptcache.store.forks import lock_for_moments

FIRST = 5.0
LONGEST = 300.0
"""Seconds of rest after a first failure, and after many."""


class Breaker:
    """Lets nobody through for a while after a failure, and then one to try.

    Each failure in a row doubles the while. Safe to use from several threads.
    """

    def __init__(self, first: float = FIRST) -> None:
        self._first = first
        self._failures = 0
        self._until = 0.0
        self._lock = lock_for_moments()

    def lets_through(self) -> bool:
        """Whether to try now. Who tries says afterwards how it went."""
        with self._lock:
            if not self._failures:
                return True
            if time.monotonic() < self._until:
                return False
            self._until = time.monotonic() + self._rest()  # for all others, while one tries
            return True

    def rests(self) -> bool:
        """Whether it lets nobody through now."""
        with self._lock:
            return bool(self._failures) and time.monotonic() < self._until

    def went_well(self) -> None:
        """All may try again."""
        with self._lock:
            self._failures = 0

    def failed(self) -> None:
        """Rest, longer than the last time."""
        with self._lock:
            self._failures += 1
            self._until = time.monotonic() + self._rest()

    def _rest(self) -> float:
        return min(LONGEST, self._first * 2.0 ** min(self._failures - 1, 30))
