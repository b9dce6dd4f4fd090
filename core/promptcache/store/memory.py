"""The memory tier: attention states on the model's own device, the cheapest ones out first.

What goes first is chosen by GreedyDual-Size (Cao and Irani, USITS 1997): each entry is due at the
clock's time when it was used last, plus what a byte of it cost to encode; who is due first goes,
and the clock is set to its time. Where costs are equal or unknown, that is the least recently used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from promptcache.kv import KV
from promptcache.store.budget import checked_budget
from promptcache.store.forks import lock_for_moments
from promptcache.store.protocol import NO_EFFORTS, Effort
from promptcache.store.weighing import Weights


@dataclass(slots=True)
class Entry:
    """States, what a byte of them is worth, when they are due, and how many uses came before."""

    kv: KV
    weight: float
    due: float = 0.0
    used: int = 0


class MemoryStore:
    """Keeps at most `budget` bytes of attention states in memory.

    Raises BudgetError for a budget that is not a positive number of bytes. States larger than what
    eviction can free are not kept: `put` says so, and they stay usable for the request that made
    them.
    """

    tier = "memory"

    def __init__(self, budget: int) -> None:
        self._budget = checked_budget(budget, "memory")
        self._entries: dict[str, Entry] = {}
        self._queues: dict[float, OrderedDict[str, None]] = {}
        """The keys of each weight, least recently used first: so they are due in this order."""
        self._weights = Weights()
        self._clock = 0.0
        self._uses = 0
        self._pinned: set[str] = set()
        self._nbytes = 0
        self._pinned_nbytes = 0
        self._expected = 0
        self._lock = lock_for_moments()

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
            self._use(key)
            return self._entries[key].kv

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key` and the name of this tier."""
        kv = self.get(key)
        return None if kv is None else (kv, self.tier)

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        """What it has of these keys."""
        del efforts  # nothing is quicker than what is in memory
        found = {key: self.get(key) for key in keys}
        return {key: (kv, self.tier) for key, kv in found.items() if kv is not None}

    def holding(self, keys: Collection[str]) -> set[str]:
        """Which of these keys it has; they do not count as used."""
        with self._lock:
            return {key for key in keys if key in self._entries}

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """The bytes of each of these keys that it has; they do not count as used."""
        with self._lock:
            return {key: self._nbytes_of(key) for key in keys if key in self._entries}

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv`, in place of what the key had, if pinned entries leave room for it."""
        with self._lock:
            before = self._entries.get(key)
            freed = before.kv.nbytes if before and key in self._pinned else 0
            if kv.nbytes > self._budget - self._pinned_nbytes + freed:
                return False
            self._remove(key)
            self._make_room(kv.nbytes)
            entry = self._entries[key] = Entry(kv, self._weights.weight(kv.cost, kv.nbytes))
            self._queues.setdefault(entry.weight, OrderedDict())[key] = None
            self._use(key)
            self._count(key, kv.nbytes)
            return True

    def expect(self, nbytes: int) -> bool:
        """Leave so many bytes free; False, and nothing is evicted, for more than it could take."""
        with self._lock:
            if nbytes > self._budget - self._pinned_nbytes:
                return False
            self._expected += nbytes
            self._make_room(0)
            return True

    def expect_no_more(self, nbytes: int) -> None:
        """Leave so many bytes less free: they come now, or never."""
        with self._lock:
            self._expected -= nbytes

    def delete(self, key: str) -> bool:
        """Forget `key` and its pin."""
        with self._lock:
            removed = self._remove(key)
            self._pinned.discard(key)
            return removed

    def keys(self) -> list[str]:
        """Every key, in the order in which they would go."""
        with self._lock:
            return sorted(self._entries, key=self._when)

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted, also when it is put later."""
        with self._lock:
            if key not in self._pinned:
                self._pinned.add(key)
                self._pinned_nbytes += self._nbytes_of(key)

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""
        with self._lock:
            if key in self._pinned:
                self._pinned.remove(key)
                self._pinned_nbytes -= self._nbytes_of(key)

    def evict(self) -> int:
        """Forget everything that is not pinned; the bytes that were freed."""
        with self._lock:
            before = self._nbytes
            for key in [key for key in self._entries if key not in self._pinned]:
                self._remove(key)
            return before - self._nbytes

    def check_integrity(self) -> None:
        """Assert that the byte counts and the queues are right, and the budget is kept."""
        with self._lock:
            assert self._nbytes == sum(entry.kv.nbytes for entry in self._entries.values())
            assert self._pinned_nbytes == sum(map(self._nbytes_of, self._pinned))
            assert self._nbytes <= self._budget
            queued = [key for queue in self._queues.values() for key in queue]
            assert sorted(queued) == sorted(self._entries)
            for queue in self._queues.values():
                assert queue and list(queue) == sorted(queue, key=self._when)

    def _use(self, key: str) -> None:
        entry = self._entries[key]
        self._uses += 1
        entry.due, entry.used = self._clock + entry.weight, self._uses
        self._queues[entry.weight].move_to_end(key)

    def _when(self, key: str) -> tuple[float, int]:
        entry = self._entries[key]
        return entry.due, entry.used

    def _make_room(self, needed: int) -> None:
        while self._nbytes + self._expected + needed > self._budget:
            first = (
                next((key for key in queue if key not in self._pinned), None)
                for queue in self._queues.values()
            )
            loose = [key for key in first if key is not None]
            if not loose:
                return
            key = min(loose, key=self._when)
            self._clock = max(self._clock, self._entries[key].due)
            self._remove(key)

    def _remove(self, key: str) -> bool:
        entry = self._entries.get(key)
        if entry is None:
            return False
        self._count(key, -entry.kv.nbytes)
        del self._entries[key]
        queue = self._queues[entry.weight]
        del queue[key]
        if not queue:
            del self._queues[entry.weight]
        return True

    def _nbytes_of(self, key: str) -> int:
        entry = self._entries.get(key)
        return entry.kv.nbytes if entry else 0

    def _count(self, key: str, nbytes: int) -> None:
        self._nbytes += nbytes
        if key in self._pinned:
            self._pinned_nbytes += nbytes
