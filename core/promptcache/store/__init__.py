"""Where attention states are kept: tiers behind one small protocol."""

from promptcache.store.budget import default_budget
from promptcache.store.disk import DiskStore
from promptcache.store.host import HostStore
from promptcache.store.memory import MemoryStore
from promptcache.store.opening import opened
from promptcache.store.protocol import PRIVATE, Store
from promptcache.store.tiers import Tiers

__all__ = [
    "PRIVATE",
    "DiskStore",
    "HostStore",
    "MemoryStore",
    "Store",
    "Tiers",
    "default_budget",
    "opened",
]
