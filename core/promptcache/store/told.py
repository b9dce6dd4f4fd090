"""Warnings of one tier: each kind of failure is said once, however often it comes."""

from __future__ import annotations

import logging

from promptcache.store.forks import lock_for_moments

log = logging.getLogger("promptcache")


class Told:
    """What a tier has warned of already. Safe to use from several threads."""

    def __init__(self) -> None:
        self._kinds: set[str] = set()
        self._lock = lock_for_moments()

    def once(self, kind: str, message: str) -> None:
        """Warn, unless that was done for this kind before."""
        with self._lock:
            new = kind not in self._kinds
            self._kinds.add(kind)
        if new:
            log.warning("%s", message)
