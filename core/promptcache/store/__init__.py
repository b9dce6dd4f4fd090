"""Where attention states are kept: tiers behind one small protocol."""

from promptcache.store.host import HostStore
from promptcache.store.memory import MemoryStore, default_budget
from promptcache.store.protocol import Store

__all__ = ["HostStore", "MemoryStore", "Store", "default_budget"]
