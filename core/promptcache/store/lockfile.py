"""A file that processes lock to change what it guards, and that says whether anyone has.

Whoever holds it leaves a new number in it; who finds another number than its own looks again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, flock
from pathlib import Path

from promptcache.store.forks import after_fork

NUMBER_BYTES = 8


class LockFile:
    """A lock between processes; threads of one process need another beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        after_fork(self._leave)

    def number(self) -> bytes:
        """The number that was left last; empty where there is none. Waits for nobody."""
        try:
            return self._path.read_bytes()
        except OSError:
            return b""

    @contextmanager
    def held(self) -> Iterator[Callable[[], bytes]]:
        """Be the only process that holds it; gives what leaves a new number and returns it.

        The lock of a process that dies is free. Raises OSError where files cannot be locked.
        """
        self._handle = handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            flock(handle, LOCK_EX)
            try:
                yield lambda: _renumbered(handle)
            finally:
                flock(handle, LOCK_UN)
        finally:
            self._handle = None
            os.close(handle)

    def _leave(self) -> None:
        """In a forked process: the lock is its parent's, and free when that is gone."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _renumbered(handle: int) -> bytes:
    number = os.urandom(NUMBER_BYTES)
    os.pwrite(handle, number, 0)
    return number
