"""Prompt Cache (Gim et al., MLSys 2024): attention states of documents, computed once, reused in
any order.

    from promptcache import PromptCache

    cache = PromptCache.from_pretrained("pocket")
    cache.cache_documents(texts)
    reply = cache.generate_messages([{"role": "user", "content": prompt}])
    reply.text, reply.usage.reused_tokens, reply.ttft, reply.trace
"""

from promptcache.cached import CachedDocuments
from promptcache.decoys import Expected
from promptcache.engine import PromptCache
from promptcache.errors import PromptCacheError
from promptcache.pml.programs import Length, role, schema
from promptcache.prompts import Frame
from promptcache.reply import Reply, Stage, Usage
from promptcache.reuse import Exact, FirstK, Modular, NoReuse, ReusePolicy, Selective, Sensitive
from promptcache.store import DiskStore, HostStore, MemoryStore, RemoteStore, Store, Tiers
from promptcache.stream import Stream
from promptcache.trace import Provenance, Span, Trace

__all__ = [
    "CachedDocuments",
    "DiskStore",
    "Exact",
    "Expected",
    "FirstK",
    "Frame",
    "HostStore",
    "Length",
    "MemoryStore",
    "Modular",
    "NoReuse",
    "PromptCache",
    "PromptCacheError",
    "Provenance",
    "RemoteStore",
    "Reply",
    "ReusePolicy",
    "Selective",
    "Sensitive",
    "Span",
    "Stage",
    "Store",
    "Stream",
    "Tiers",
    "Trace",
    "Usage",
    "role",
    "schema",
]
