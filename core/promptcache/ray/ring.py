"""Consistent hashing: nodes and keys on one circle, so that a node that comes or goes moves few.

Karger et al., STOC 1997. Knows neither requests nor loads.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator
from hashlib import blake2b

POINTS = 64
"""Places of each node on the circle: with so many, shares differ by about an eighth."""


def place_of(text: str) -> int:
    """Where a text stands on the circle, from 0 to 2**64 - 1; the same in every process."""
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")


class Ring:
    """Some nodes on the circle. It never changes: other nodes are another ring."""

    def __init__(self, nodes: Iterable[str] = (), points: int = POINTS) -> None:
        self.nodes = frozenset(nodes)
        placed = sorted(
            (place_of(f"{node}#{i}"), node) for node in self.nodes for i in range(points)
        )
        self._places = [place for place, _ in placed]
        self._owners = [node for _, node in placed]

    def walk(self, key: str) -> Iterator[str]:
        """Every node once, in the order in which they stand from the key's place on.

        The first is the key's home; without it the second would be.
        """
        begin = bisect(self._places, place_of(key))
        seen: set[str] = set()
        for step in range(len(self._owners)):
            node = self._owners[(begin + step) % len(self._owners)]
            if node not in seen:
                seen.add(node)
                yield node
                if len(seen) == len(self.nodes):
                    return

    def home(self, key: str) -> str:
        """The first node from the key's place on. The ring has to have one."""
        return self._owners[bisect(self._places, place_of(key)) % len(self._owners)]
