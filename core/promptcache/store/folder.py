"""A folder of files that several processes share: written whole or not at all, within a budget.

Whoever changes something holds the lock file and leaves a new number in it; who finds another one
than its own looks through the folder again. Reading takes no lock. Knows nothing of what is in the
files, and no torch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from heapq import nsmallest
from pathlib import Path
from threading import Lock, RLock
from typing import BinaryIO

from promptcache.store.forks import after_fork
from promptcache.store.identity import Identity
from promptcache.store.listing import File, files_in, keyed_in
from promptcache.store.lockfile import LockFile
from promptcache.store.whole import to_disk, write_whole

SUFFIX = ".kv.safetensors"
UNFINISHED = ".kv.unfinished"
"""How names end. Other files, a model's weights for instance, are neither counted nor removed."""
LOCK = ".kv.lock"
DAMAGED = "damaged"
"""The folder within for files that were set aside."""
COMPARED = 64
"""Of so many files that were used longest ago, one goes."""
RESCAN = 60.0
"""Seconds after which the folder is looked through again: files may come and go by hand."""


class Folder:
    """Files by key, of at most `budget` bytes together. Safe to use from threads and processes.

    What was set aside counts, too, and goes first when room is needed; then goes what was used
    longest ago by any process, for its weight: `weigh` gives that of a key's file of so many bytes.
    A key in `pinned` is not evicted by this process.
    """

    def __init__(
        self, path: Path, budget: int, weigh: Callable[[str, int], float] = lambda *_: 1.0
    ) -> None:
        self.path = path
        self.budget = budget
        self._weigh = weigh
        self.pinned: set[str] = set()
        self._files: dict[str, File] = {}
        self._damaged: dict[str, File] = {}
        self._lockfile = LockFile(path / LOCK)
        self._number = b""
        self._scanned = 0.0
        self._last = 0
        self._unfinished: list[str] = []
        self._renew()
        after_fork(self._renew)

    def _renew(self) -> None:
        """Make the locks, which nobody holds."""
        self._lock = RLock()
        """Held for moments."""
        self._changing = Lock()
        """Held with the lock file, while files are written, too."""

    def path_of(self, key: str) -> Path:
        """Where the file of a key is, if there is one."""
        return self.path / f"{key}{SUFFIX}"

    @property
    def nbytes(self) -> int:
        """The bytes of its files, those set aside among them."""
        with self._lock:
            self._look()
            return self._total()

    def files(self) -> dict[str, File]:
        """Every file by its key, the one used longest ago first."""
        with self._lock:
            self._look()
            return dict(sorted(self._files.items(), key=lambda item: item[1].used))

    def foreign(self) -> list[str]:
        """The files that are called as those of keys are, by names that no key has."""
        return sorted(files_in(self.path, SUFFIX).keys() - keyed_in(self.path, SUFFIX).keys())

    def damaged(self) -> int:
        """How many files were set aside."""
        with self._lock:
            self._look()
            return len(self._damaged)

    def touch(self, key: str) -> None:
        """Count a file as used now, for all processes."""
        with self._lock:
            self._last = now = max(time.time_ns(), self._last + 1)
            if key in self._files:
                self._files[key].used = now
        with suppress(OSError):  # gone, or the folder is read-only
            os.utime(self.path_of(key), ns=(now, now))

    def write(self, key: str, nbytes: int, fill: Callable[[BinaryIO], None]) -> bool:
        """Let `fill` write the file of a key, `nbytes` long, in place of the one that is there.

        Nobody sees it before it is whole. False when there is no room; OSError when it fails.
        """
        with self._exclusive():
            with self._lock:
                if not self._make_room(nbytes, key):
                    return False
            write_whole(self.path_of(key), UNFINISHED, fill)
            with self._lock:
                self._files[key] = File(nbytes, 0)
            self.touch(key)
            to_disk(self.path)
            return True

    def delete(self, key: str) -> bool:
        """Remove the file of a key, and what was set aside of it. False when there was no file;
        raises OSError when one stays.
        """
        path = self.path_of(key)
        there = path.exists()
        if not there and not (self.path / DAMAGED / path.name).exists():
            return False
        with self._exclusive(), self._lock:
            self._remove(key)
            if path.name in self._damaged:
                self._remove_damaged(path.name)
        return there

    def set_aside(self, key: str, file: Identity) -> bool:
        """Move the file of a key out of the way; False when it is another file by now."""
        with self._exclusive(), self._lock:
            path, aside = self.path_of(key), self.path / DAMAGED
            try:
                if Identity.of(path) != file:
                    return False
                aside.mkdir(mode=0o700, exist_ok=True)
                path.replace(aside / path.name)
            except FileNotFoundError:
                return False
            self._files.pop(key, None)
            self._damaged[path.name] = File(file.nbytes, file.written)
            return True

    def shrink(self, budget: int) -> int:
        """Remove what was set aside, and files until `budget` bytes are left; the bytes freed."""
        with self._exclusive(), self._lock:
            before = self._total()
            while self._damaged:
                self._remove_damaged(self._oldest_damaged())
            self._evict(budget, spared="")
            return before - self._total()

    def check_integrity(self) -> None:
        """Assert that what it counts is what lies there, and that this keeps the budget."""
        with self._changing, self._lock:
            self._refresh()
            counted = {key: file.nbytes for key, file in self._files.items()}
            self._scan()
            assert counted == {key: file.nbytes for key, file in self._files.items()}
            assert self._total() <= self.budget

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """Be the only one, of all processes, that changes something."""
        with self._changing, self._lockfile.held() as renumber:
            with self._lock:
                self._refresh()
                # Before and after: whoever dies in between leaves a number that nobody knows.
                self._number = renumber()
                self._remove_unfinished()
            try:
                yield
            finally:
                with self._lock:
                    self._number = renumber()

    def _look(self) -> None:
        """Look through the folder as far as it can be read now: else it is as it was."""
        with suppress(OSError):
            self._refresh()

    def _refresh(self) -> None:
        """Look through the folder, if another process may have changed it. Raises OSError."""
        number = self._lockfile.number()
        if number != self._number or not number or time.monotonic() > self._scanned + RESCAN:
            self._scan()
            self._number = number

    def _scan(self) -> None:
        files = keyed_in(self.path, SUFFIX)
        unfinished = list(files_in(self.path, UNFINISHED))
        damaged = keyed_in(self.path / DAMAGED, SUFFIX)
        before = self._files
        self._files = {name.removesuffix(SUFFIX): file for name, file in files.items()}
        for key in self._files.keys() & before.keys():
            self._files[key].weight = before[key].weight
        self._unfinished = unfinished
        self._damaged = damaged
        self._scanned = time.monotonic()

    def _total(self) -> int:
        files = (*self._files.values(), *self._damaged.values())
        return sum(file.nbytes for file in files)

    def _make_room(self, nbytes: int, key: str) -> bool:
        """Evict until so many bytes more keep the budget, if that is possible at all."""
        stay = sum(file.nbytes for name, file in self._files.items() if name in self.pinned)
        if nbytes > self.budget - stay:
            return False
        while self._total() + nbytes > self.budget and self._damaged:
            self._remove_damaged(self._oldest_damaged())
        self._evict(self.budget - nbytes, spared=key)
        return True

    def _evict(self, budget: int, spared: str) -> None:
        """Remove files until `budget` bytes are left, `spared` last, none that is pinned."""
        while self._total() > budget:
            loose = [key for key in self._files if key not in self.pinned]
            if not loose:
                return
            now = time.time_ns()
            oldest = nsmallest(COMPARED, loose, key=lambda key: self._files[key].used)
            key = max(oldest, key=lambda key: (key != spared, self._idle(key, now)))
            file = self._files[key]
            with suppress(OSError):
                used = self.path_of(key).stat().st_mtime_ns
                if used > file.used:  # by another process
                    file.used = used
                    continue
            self._remove(key)

    def _idle(self, key: str, now: int) -> float:
        """How long a file has not been used, for its weight."""
        file = self._files[key]
        file.weight = file.weight or self._weigh(key, file.nbytes)
        return (now - file.used) / file.weight

    def _remove(self, key: str) -> None:
        self.path_of(key).unlink(missing_ok=True)
        self._files.pop(key, None)

    def _oldest_damaged(self) -> str:
        return min(self._damaged, key=lambda name: self._damaged[name].used)

    def _remove_damaged(self, name: str) -> None:
        (self.path / DAMAGED / name).unlink(missing_ok=True)
        del self._damaged[name]

    def _remove_unfinished(self) -> None:
        """Remove what dead writers left: a living one would hold the lock file."""
        while self._unfinished:
            (self.path / self._unfinished.pop()).unlink(missing_ok=True)
