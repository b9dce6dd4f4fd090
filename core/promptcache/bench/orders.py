"""How the documents of a prompt stand to those of the prompt before."""

from __future__ import annotations

import random
from enum import StrEnum


class Order(StrEnum):
    """The orders that are measured."""

    IN_ORDER = "in-order"
    """The same one."""
    SHUFFLED = "shuffled"
    """Another one, each time another one."""
    COLD = "cold"
    """Another one, and never seen before, by an engine that has encoded nothing."""
    FROM_DISK = "from-disk"
    """Another one, by an engine that has just started; an earlier one left its modules on disk."""
    FROM_REMOTE = "from-remote"
    """The same, but it left them at a URL."""


FIRST = frozenset({Order.COLD, Order.FROM_DISK, Order.FROM_REMOTE})
"""Those of an engine's first prompt."""


def shuffled(count: int, rng: random.Random) -> list[int]:
    """0 to `count` - 1 in an order of their own, which is another one if there is another."""
    order = list(range(count))
    while order == list(range(count)) and count > 1:
        rng.shuffle(order)
    return order
