"""Reuse policies: which cached tokens are computed again when a prompt is prefilled."""

from promptcache.reuse.exact import Exact
from promptcache.reuse.first import FirstK
from promptcache.reuse.modular import Modular
from promptcache.reuse.none import NoReuse
from promptcache.reuse.policy import Check, ReusePolicy
from promptcache.reuse.selective import Selective
from promptcache.reuse.sensitive import Sensitive

__all__ = [
    "Check",
    "Exact",
    "FirstK",
    "Modular",
    "NoReuse",
    "ReusePolicy",
    "Selective",
    "Sensitive",
]
