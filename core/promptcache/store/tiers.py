"""Two tiers as one store: a fast one, and a lasting one behind it."""

from __future__ import annotations

import logging
from dataclasses import replace
from threading import Lock

import torch

from promptcache.kv import KV
from promptcache.store.protocol import PRIVATE, Store
from promptcache.store.writing import Writer

log = logging.getLogger("promptcache")

WAITING = 256 * 1024**2
"""Bytes that may wait to be written, beside what the memory tier holds."""


class Tiers:
    """Keeps attention states in `memory`, and writes them to `disk` in the background.

    What is found on disk is copied into memory, onto `device` if one is given. No request waits
    for a write: what finds `waiting` bytes ahead of it is written when it is next read, or when
    `flush` is called, if memory still has it then. What belongs to one process (`PRIVATE`) stays
    in memory. The process ends when all that waits is written.
    """

    def __init__(
        self,
        memory: Store,
        disk: Store,
        *,
        device: torch.device | None = None,
        waiting: int = WAITING,
    ) -> None:
        self.memory = memory
        self.disk = disk
        self._device = device
        self._writer = Writer(disk, waiting)
        self._unwritten: set[str] = set()
        self._lock = Lock()

    @property
    def tier(self) -> str:
        """The name of the tier in memory: what was just put is read from there."""
        return self.memory.tier

    @property
    def budget(self) -> int:
        """The bytes that both tiers together never exceed."""
        return self.memory.budget + self.disk.budget

    @property
    def nbytes(self) -> int:
        """The bytes that both tiers hold; what is in both counts twice."""
        return self.memory.nbytes + self.disk.nbytes

    @property
    def unwritten(self) -> int:
        """How many entries the disk was too slow for, and still lacks."""
        return len(self._unwritten)

    def get(self, key: str) -> KV | None:
        """The states under `key`, from the fastest tier that has them."""
        found = self.find(key)
        return None if found is None else found[0]

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key`, and the name of the fastest tier that had them."""
        found = self.memory.find(key)
        if found is not None:
            if key in self._unwritten:
                self._write(key, found[0])
            return found
        waiting = self._writer.get(key)
        if waiting is not None:
            self.memory.put(key, waiting)
            return waiting, self.memory.tier
        found = self.disk.find(key)
        return None if found is None else (self._promoted(key, found[0]), found[1])

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv` in memory now and on disk soon. False when neither will have it."""
        kept = self.memory.put(key, kv)
        return self._write(key, kv) or kept

    def delete(self, key: str) -> bool:
        """Forget `key` in every tier."""
        with self._lock:
            self._unwritten.discard(key)
        waited = self._writer.discard(key)
        there = [self.memory.delete(key), self.disk.delete(key)]
        return waited or any(there)

    def keys(self) -> list[str]:
        """Every key of any tier; those in memory last, least recently used first."""
        fast = self.memory.keys()
        slow = dict.fromkeys((*self.disk.keys(), *self._writer.keys()))
        for key in fast:
            slow.pop(key, None)
        return [*slow, *fast]

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted, from memory and by this process from the disk."""
        self.memory.pin(key)
        self.disk.pin(key)

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""
        self.memory.unpin(key)
        self.disk.unpin(key)

    def evict(self) -> int:
        """Forget everything in memory that is not pinned; the disk keeps what it has."""
        return self.memory.evict()

    def flush(self, timeout: float | None = None) -> None:
        """Wait until the disk has all that memory has. TimeoutError after `timeout` seconds."""
        self._writer.flush(timeout)
        for key in list(self._unwritten):
            kv = self.memory.get(key)
            if kv is None:
                with self._lock:
                    self._unwritten.discard(key)
            else:
                self._write(key, kv)
                self._writer.flush(timeout)

    def check_integrity(self) -> None:
        """Assert that both tiers are right about themselves."""
        self.memory.check_integrity()
        self.disk.check_integrity()

    def _write(self, key: str, kv: KV) -> bool:
        """Have the disk keep it, unless it is private or too much waits already."""
        if key.startswith(PRIVATE):
            return False
        written = self._writer.put(key, kv)
        with self._lock:
            first = not written and not self._unwritten
            (self._unwritten.discard if written else self._unwritten.add)(key)
        if first:
            log.warning("states come faster than the disk takes them: some are written later")
        return written

    def _promoted(self, key: str, kv: KV) -> KV:
        """A copy in memory that depends on no file, if there can be room for it."""
        if kv.nbytes > self.memory.budget:
            return kv
        copy = replace(
            kv,
            keys=tuple(self._copied(tensor) for tensor in kv.keys),
            values=tuple(self._copied(tensor) for tensor in kv.values),
            side={name: tensor.clone() for name, tensor in kv.side.items()},
        )
        self.memory.put(key, copy)
        return self.memory.get(key) or copy

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device or tensor.device, copy=True)
