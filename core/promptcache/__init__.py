"""Prompt Cache (Gim et al., MLSys 2024): attention states of documents, computed once, reused in
any order.

    from promptcache import PromptCache

    cache = PromptCache.from_pretrained("pocket")
    cache.cache_documents(texts)
    reply = cache.generate_messages([{"role": "user", "content": prompt}])
    reply.text, reply.usage.reused_tokens, reply.ttft, reply.trace
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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

_HOMES = {
    "promptcache.cached": ("CachedDocuments",),
    "promptcache.decoys": ("Expected",),
    "promptcache.engine": ("PromptCache",),
    "promptcache.errors": ("PromptCacheError",),
    "promptcache.pml.programs": ("Length", "role", "schema"),
    "promptcache.prompts": ("Frame",),
    "promptcache.reply": ("Reply", "Stage", "Usage"),
    "promptcache.reuse": (
        "Exact",
        "FirstK",
        "Modular",
        "NoReuse",
        "ReusePolicy",
        "Selective",
        "Sensitive",
    ),
    "promptcache.store": ("DiskStore", "HostStore", "MemoryStore", "RemoteStore", "Store", "Tiers"),
    "promptcache.stream": ("Stream",),
    "promptcache.trace": ("Provenance", "Span", "Trace"),
}
"""The modules that these names are in. Each is imported when one of its names is first asked for:
what needs no model, such as a server's client or a cluster's ingress, loads no torch."""


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if not TYPE_CHECKING:  # else every name would be there for type checkers

    def __getattr__(name: str) -> object:
        for home, names in _HOMES.items():
            if name in names:
                globals()[name] = value = getattr(import_module(home), name)
                return value
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
