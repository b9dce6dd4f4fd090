"""The store that a user names: one as it is, folders and URLs as tiers behind memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import torch

from promptcache.errors import OptionError
from promptcache.store.budget import default_budget
from promptcache.store.disk import DiskStore
from promptcache.store.memory import MemoryStore
from promptcache.store.protocol import Store
from promptcache.store.remote import RemoteStore
from promptcache.store.tiers import Tiers

StoreLike: TypeAlias = Store | str | Path | Sequence[Store | str | Path]
"""What names a store: one itself, a folder, a URL, or several of these, fastest first."""


def opened(store: object, device: torch.device) -> Store:
    """The store for a model on `device`: `store` itself, or for None a quarter of the device's
    memory; for a folder or a URL that memory and the folder or URL behind it; for several of
    these all of them behind one another, and behind that memory, if none of them is first.

    Raises OptionError for what is none of these, StoreError for a folder that cannot be made.
    """
    if isinstance(store, Store):
        return store
    if store is None:
        return MemoryStore(default_budget(device))
    given = store if isinstance(store, list | tuple) else (store,)
    tiers = [_tier(each, store) for each in given]
    if not tiers:
        raise _unknown(store)
    if not isinstance(tiers[0], MemoryStore):
        tiers = [MemoryStore(default_budget(device)), *tiers]
    return Tiers(*tiers, device=device)


def _tier(given: object, whole: object) -> Store:
    if isinstance(given, Store):
        return given
    if not isinstance(given, str | Path) or not str(given):
        raise _unknown(whole)
    return RemoteStore(given) if isinstance(given, str) and "://" in given else DiskStore(given)


def _unknown(store: object) -> OptionError:
    return OptionError(
        f"store={store!r:.200} is neither a store, nor the name of a folder, nor a URL, nor "
        'several of these; expected for example MemoryStore(2 * 1024**3), "~/.cache/promptcache", '
        'or ["~/.cache/promptcache", "s3://bucket/prefix"]'
    )
