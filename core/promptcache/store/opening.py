"""The store that a user names: one as it is, a folder as memory with a disk behind it."""

from __future__ import annotations

from pathlib import Path

import torch

from promptcache.errors import OptionError
from promptcache.store.budget import default_budget
from promptcache.store.disk import DiskStore
from promptcache.store.memory import MemoryStore
from promptcache.store.protocol import Store
from promptcache.store.tiers import Tiers


def opened(store: object, device: torch.device) -> Store:
    """The store for a model on `device`: `store` itself, or for the name of a folder a quarter of
    the device's memory and of what the disk has free, or for None that memory alone.

    Raises OptionError for what is none of these, StoreError for a folder that cannot be made.
    """
    if isinstance(store, Store):
        return store
    if store is None:
        return MemoryStore(default_budget(device))
    if not isinstance(store, str | Path) or not str(store) or "://" in str(store):
        raise OptionError(
            f"store={store!r} is neither a store nor the name of a folder; expected for example "
            'MemoryStore(2 * 1024**3) or "~/.cache/promptcache"'
        )
    return Tiers(MemoryStore(default_budget(device)), DiskStore(store), device=device)
