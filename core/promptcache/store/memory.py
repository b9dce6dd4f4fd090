"""The memory tier: attention states on the model's own device, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

from promptcache.kv import KV
from promptcache.store.budget import checked_budget


class MemoryStore:
    """Keeps at most `budget` bytes of attention states in memory.

    Raises BudgetError for a budget that is not a positive number of bytes. States larger than what
    eviction can free are not kept: `put` says so, and they stay usable for the request that made
    them.
    """

    tier = "memory"

    def __init__(self, budget: int) -> None:
        self._budget = checked_budget(budget, "memory")
        self._entries: OrderedDict[str, KV] = OrderedDict()
        self._pinned: set[str] = set()
        self._nbytes = 0
        self._pinned_nbytes = 0
        self._lock = Lock()

    @property
    def budget(self) -> int:
        """The bytes that it never exceeds."""
        return self._budget

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""
        return self._nbytes

    def get(self, key: str) -> KV | None:
        """The states under `key`, which count as used now."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key` and the name of this tier."""
        kv = self.get(key)
        return None if kv is None else (kv, self.tier)

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv`, in place of what the key had, if pinned entries leave room for it."""
        with self._lock:
            before = self._entries.get(key)
            freed = before.nbytes if before and key in self._pinned else 0
            if kv.nbytes > self._budget - self._pinned_nbytes + freed:
                return False
            self._remove(key)
            self._make_room(kv.nbytes)
            self._entries[key] = kv
            self._count(key, kv.nbytes)
            return True

    def delete(self, key: str) -> bool:
        """Forget `key` and its pin."""
        with self._lock:
            removed = self._remove(key)
            self._pinned.discard(key)
            return removed

    def keys(self) -> list[str]:
        """Every key, least recently used first."""
        with self._lock:
            return list(self._entries)

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted, also when it is put later."""
        with self._lock:
            if key not in self._pinned:
                self._pinned.add(key)
                self._pinned_nbytes += self._entries[key].nbytes if key in self._entries else 0

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""
        with self._lock:
            if key in self._pinned:
                self._pinned.remove(key)
                self._pinned_nbytes -= self._entries[key].nbytes if key in self._entries else 0

    def evict(self) -> int:
        """Forget everything that is not pinned; the bytes that were freed."""
        with self._lock:
            before = self._nbytes
            for key in [key for key in self._entries if key not in self._pinned]:
                self._remove(key)
            return before - self._nbytes

    def check_integrity(self) -> None:
        """Assert that the byte counts are right and within the budget."""
        with self._lock:
            assert self._nbytes == sum(kv.nbytes for kv in self._entries.values())
            pinned = [kv.nbytes for key, kv in self._entries.items() if key in self._pinned]
            assert self._pinned_nbytes == sum(pinned)
            assert self._nbytes <= self._budget

    def _make_room(self, needed: int) -> None:
        for key in list(self._entries):
            if self._nbytes + needed <= self._budget:
                return
            if key not in self._pinned:
                self._remove(key)

    def _remove(self, key: str) -> bool:
        kv = self._entries.pop(key, None)
        if kv is not None:
            self._count(key, -kv.nbytes)
        return kv is not None

    def _count(self, key: str, nbytes: int) -> None:
        self._nbytes += nbytes
        if key in self._pinned:
            self._pinned_nbytes += nbytes
