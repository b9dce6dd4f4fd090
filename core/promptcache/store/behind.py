"""A slower tier behind a faster one: written in the background, read where that is worth it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping

from promptcache.kv import KV
from promptcache.store.forks import lock_for_moments
from promptcache.store.memory import MemoryStore
from promptcache.store.naming import PRIVATE
from promptcache.store.protocol import Effort, Store
from promptcache.store.rates import Rate
from promptcache.store.recent import Recent
from promptcache.store.writing import Writer

log = logging.getLogger("promptcache")

SLOWER = 1.5
"""A tier is left out that takes so many times as long as encoding."""
SAVED = 0.01
"""And where that saves at least so many seconds: less is not worth a choice."""
TRIED_AGAIN = 60.0
"""Seconds after which a tier that was too slow, or did not take something, is asked again."""


class Behind:
    """One slower tier, of which at most `waiting` bytes wait to be written."""

    def __init__(self, tier: Store, waiting: int) -> None:
        self.tier = tier
        self.writer = Writer(tier, waiting, self._refuse)
        self.unwritten: Recent[None] = Recent()
        self._refused: Recent[float] = Recent()
        self._left_out: Recent[None] = Recent()
        self._rate = Rate()
        self._measured = 0.0
        self._lock = lock_for_moments()

    def write(self, key: str, kv: KV) -> bool:
        """Have the tier keep it, unless it cannot or too much waits already.

        What was encoded because the tier is slow is not written again.
        """
        if key.startswith(PRIVATE) and not isinstance(self.tier, MemoryStore):
            return False
        with self._lock:
            left_out = key in self._left_out
            self._left_out.pop(key, None)
            self._refused.pop(key, None)
        if left_out and self.tier.holding([key]):
            return True
        reason = f"states come faster than the {self.tier.tier} takes them"
        try:
            written = self.writer.put(key, kv)
        except RuntimeError as error:  # there are too many threads
            written, reason = False, f"states cannot be written to the {self.tier.tier}: {error}"
        with self._lock:
            first = not written and not self.unwritten
            self.unwritten.pop(key, None)
            if not written:
                self.unwritten[key] = None
        if first:
            log.warning("%s: some are written later", reason)
        return written

    def lacking(self, keys: Collection[str]) -> list[str]:
        """Which of these keys to give it again: too much waited, or it failed a while ago."""
        with self._lock:
            before = time.monotonic() - TRIED_AGAIN
            refused = [key for key in self._refused.keys() & keys if self._refused[key] < before]
            return [*(self.unwritten.keys() & keys), *refused]

    def waiting(self, keys: Iterable[str]) -> dict[str, KV]:
        """What waits to be written under these keys."""
        found = {key: self.writer.get(key) for key in keys}
        return {key: kv for key, kv in found.items() if kv is not None}

    def find_all(
        self,
        keys: Iterable[str],
        efforts: Mapping[str, Effort],
        take: Callable[[str, KV], KV],
    ) -> dict[str, tuple[KV | None, str]]:
        """What the tier has of these keys, each as `take` gives it; timed, with what that takes.

        None for those that take less time to encode than to read.
        """
        wanted = list(keys)
        slow = self._slower(wanted, efforts)
        with self._lock:
            self._left_out |= dict.fromkeys(slow)
        begun = time.perf_counter()
        found = self.tier.find_all([key for key in wanted if key not in slow])
        taken = {key: (take(key, kv), name) for key, (kv, name) in found.items() if kv is not None}
        if nbytes := sum(kv.nbytes for kv, _ in taken.values()):
            self._rate.add(time.perf_counter() - begun, nbytes)
            self._measured = time.monotonic()
        return {**taken, **dict.fromkeys(slow, (None, self.tier.tier))}

    def delete(self, key: str) -> bool:
        """Forget `key`, written or not."""
        with self._lock:
            self.unwritten.pop(key, None)
            self._refused.pop(key, None)
        waited = self.writer.discard(key)
        return self.tier.delete(key) or waited

    def flush(self, get: Callable[[str], KV | None], until: float | None) -> None:
        """Wait until the tier has all that it was given and that `get` has still.

        TimeoutError when the monotonic clock says `until`.
        """
        self.writer.flush(until)
        for key in list(self.unwritten):
            kv = get(key)
            if kv is None:
                with self._lock:
                    self.unwritten.pop(key, None)
            else:
                self.write(key, kv)
                self.writer.flush(until)

    def _refuse(self, key: str) -> None:
        """Note that the tier did not take what was to be written to it."""
        with self._lock:
            self._refused[key] = time.monotonic()

    def _slower(self, keys: Iterable[str], efforts: Mapping[str, Effort]) -> set[str]:
        """Those that take longer to read than to encode, by what both took before."""
        if time.monotonic() > self._measured + TRIED_AGAIN:
            return set()
        saved: dict[str, float] = {}
        for key in keys:
            effort = efforts.get(key)
            seconds = self._rate.seconds(effort.nbytes) if effort else None
            if effort and seconds is not None and seconds > SLOWER * effort.seconds:
                saved[key] = seconds - effort.seconds
        return set(saved) if sum(saved.values()) > SAVED else set()
