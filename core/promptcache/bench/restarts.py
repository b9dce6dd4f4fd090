"""What an engine finds that has just started: nothing, or what an earlier one left in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from promptcache.bench.orders import Order
from promptcache.bench.prompts import UNLIMITED
from promptcache.store import DiskStore, MemoryStore, RemoteStore, Store, Tiers

PATIENCE = 600.0
"""Seconds that a remote may take: what is late would be encoded, and nobody wants to time that."""


@contextmanager
def store_left(earlier: Store, order: Order) -> Iterator[Store]:
    """A store with memory that is empty; behind it, as the order says, what `earlier` had.

    On a system that can, what it keeps in memory of the folder's files is dropped.
    """
    memory = MemoryStore(UNLIMITED)
    if order is Order.COLD:
        yield memory
        return
    with TemporaryDirectory() as folder:
        for key in earlier.keys():  # noqa: SIM118
            kv = earlier.get(key)
            assert kv is not None and _behind(order, folder).put(key, kv)
        _forget(Path(folder))
        store = Tiers(memory, _behind(order, folder))
        yield store
        store.flush()


def _behind(order: Order, folder: str) -> Store:
    if order is Order.FROM_DISK:
        return DiskStore(folder, UNLIMITED)
    return RemoteStore(Path(folder).as_uri(), timeout=PATIENCE)


def _forget(folder: Path) -> None:
    """Have the next reader of a folder's files read the disk."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in folder.iterdir():
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
