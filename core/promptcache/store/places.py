"""Where attention states are, tier by tier, and how many bytes they take there."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from typing import Protocol, runtime_checkable

from promptcache.store.protocol import Store
from promptcache.store.tiers import Tiers

UNBOUNDED = sys.maxsize
"""The budget of a tier that has none."""


@runtime_checkable
class Measured(Protocol):
    """A tier that knows how large its entries are; those that come with promptcache do."""

    def sizes(self, keys: Collection[str]) -> Mapping[str, int]:
        """The bytes of each of these keys that it has; they do not count as used."""


def tiers_of(store: Store) -> Sequence[Store]:
    """The tiers of a store, the fastest first; a store that has none is one."""
    return store.tiers if isinstance(store, Tiers) else (store,)


def places(store: Store, keys: Collection[str]) -> dict[str, dict[str, int]]:
    """In which tiers each key is, as far as they know by themselves, and its bytes there.

    0 bytes where a tier does not say.
    """
    found: dict[str, dict[str, int]] = {}
    for tier in tiers_of(store):
        sizes = (
            tier.sizes(keys) if isinstance(tier, Measured) else dict.fromkeys(tier.holding(keys), 0)
        )
        for key, nbytes in sizes.items():
            there = found.setdefault(key, {})
            there[tier.tier] = there.get(tier.tier, 0) + nbytes
    return found
