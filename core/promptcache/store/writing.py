"""Writing in the background: what a slow tier is to keep, in the order in which it came."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import TIMEOUT_MAX, Condition, Thread

from promptcache.kv import KV
from promptcache.store.forks import after_fork
from promptcache.store.protocol import Store

log = logging.getLogger("promptcache")


class Writer:
    """Puts states into a store in a thread of its own, which ends when nothing waits.

    At most `most` bytes wait, or one entry that is larger. The process does not end before they
    are written; one that is forked from it leaves that to it. `refused` hears of what the store
    did not take. Safe to use from several threads.
    """

    def __init__(self, store: Store, most: int, refused: Callable[[str], None]) -> None:
        self._store = store
        self._most = most
        self._refused = refused
        self._renew()
        after_fork(self._renew)

    def _renew(self) -> None:
        self._waiting: dict[str, KV] = {}
        self._writing: str | None = None
        self._working = False
        self._changed = Condition()

    def put(self, key: str, kv: KV) -> bool:
        """Have `kv` written soon, in place of what waits under the key. False: too much waits.

        Raises RuntimeError where no thread can be started, and leaves it out.
        """
        with self._changed:
            others = sum(other.nbytes for name, other in self._waiting.items() if name != key)
            if others and others + kv.nbytes > self._most:
                return False
            if not self._working:
                Thread(target=self._work, name="promptcache-writer").start()
                self._working = True
            self._waiting[key] = kv
            return True

    def get(self, key: str) -> KV | None:
        """The states under a key that are not written yet."""
        with self._changed:
            return self._waiting.get(key)

    def keys(self) -> list[str]:
        """The keys of all that is not written yet."""
        with self._changed:
            return list(self._waiting)

    def discard(self, key: str) -> bool:
        """Do not write what waits under a key; one that is being written is waited for."""
        with self._changed:
            self._changed.wait_for(lambda: self._writing != key)
            return self._waiting.pop(key, None) is not None

    def flush(self, until: float | None = None) -> None:
        """Wait until all is written. TimeoutError when the monotonic clock says `until`."""
        timeout = None if until is None else min(TIMEOUT_MAX, max(0.0, until - time.monotonic()))
        with self._changed:
            if not self._changed.wait_for(lambda: not self._working, timeout):
                raise TimeoutError(f"{len(self._waiting)} entries still wait to be written")

    def _work(self) -> None:
        while True:
            with self._changed:
                self._writing = next(iter(self._waiting), None)
                if self._writing is None:
                    self._working = False
                    self._changed.notify_all()
                    return
                key, kv = self._writing, self._waiting[self._writing]
            try:
                if not self._store.put(key, kv):
                    self._refused(key)
            except Exception:  # nobody waits for it, and the others are to be written
                log.warning("%s was not written to the %s", key, self._store.tier, exc_info=True)
                self._refused(key)
            with self._changed:
                self._writing = None
                if self._waiting.get(key) is kv:
                    del self._waiting[key]
                self._changed.notify_all()
