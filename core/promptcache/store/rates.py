"""How long things take, measured as they happen: running estimates, in seconds per unit."""

from __future__ import annotations

from promptcache.store.forks import lock_for_moments

FEWEST = 4
"""Measurements without which there is no estimate: the first ones are slower than the rest."""
REMEMBERED = 0.75
"""How much what was measured before counts beside what is measured now."""


class Rate:
    """Seconds per unit of something. Safe to use from several threads."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._amount = 0.0
        self._count = 0
        self._lock = lock_for_moments()

    def add(self, seconds: float, amount: float) -> None:
        """Take in one more measurement, of an amount greater than nothing."""
        with self._lock:
            self._seconds = REMEMBERED * self._seconds + seconds
            self._amount = REMEMBERED * self._amount + amount
            self._count += 1

    def seconds(self, amount: float) -> float | None:
        """How long so much will take; None as long as too little was measured."""
        with self._lock:
            if self._count < FEWEST:
                return None
            return amount * self._seconds / self._amount
