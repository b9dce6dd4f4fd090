"""Where attention states are kept: tiers behind one small protocol."""

from promptcache.store.budget import default_budget
from promptcache.store.disk import DiskStore
from promptcache.store.host import HostStore
from promptcache.store.memory import MemoryStore
from promptcache.store.naming import PRIVATE
from promptcache.store.opening import StoreLike, opened
from promptcache.store.protocol import Effort, Store
from promptcache.store.rates import Rate
from promptcache.store.remote import RemoteStore
from promptcache.store.tiers import Tiers

__all__ = [
    "PRIVATE",
    "DiskStore",
    "Effort",
    "HostStore",
    "MemoryStore",
    "Rate",
    "RemoteStore",
    "Store",
    "StoreLike",
    "Tiers",
    "default_budget",
    "opened",
]
