"""Which replica a request goes to: the one that holds most of its modules, unless it is overloaded.

Plain values in and out; knows neither Ray nor models, so that a simulation runs the same code.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import ceil

from promptcache.errors import OptionError
from promptcache.ray.ring import Ring

BOUND = 1.25
"""How many times the mean load of all replicas one of them may have; Mirrokni et al. call it c."""
REMEMBERED = 8192
"""Modules of which it is remembered that a replica was sent them, the last sent."""


class Routing:
    """Ranks the replicas that there are now. For one event loop.

    A replica holds, as far as is known here, the modules of the requests that it was sent last.
    A module has a home, too, by consistent hashing, which every router knows without asking: that
    decides where nobody was sent a module. A replica is overloaded when one more request would
    give it more than `bound` times its share of all that there are (Mirrokni, Thorup,
    Zadimoghaddam: "Consistent Hashing with Bounded Loads", SODA 2018), and more than `places`.

    Raises OptionError for a bound that is not above 1, or when nothing is to be remembered.
    """

    def __init__(self, bound: float = BOUND, places: int = 1, remembered: int = REMEMBERED) -> None:
        if not bound > 1:
            raise OptionError(f"bound={bound!r:.80} is not a number above 1")
        if remembered < 1:
            raise OptionError(f"remembered={remembered!r:.80} is not a number of 1 or more")
        self._bound = bound
        self._places = places
        self._remembered = remembered
        self._ring = Ring()
        self._held: dict[str, OrderedDict[str, None]] = {}
        """Modules by replica, the last sent last."""
        self._holders: dict[str, dict[str, None]] = {}
        """Replicas by module."""

    @property
    def replicas(self) -> frozenset[str]:
        """The replicas that there are."""
        return self._ring.nodes

    def update(self, replicas: Iterable[str]) -> None:
        """Go on with these replicas; what others held is forgotten."""
        there = frozenset(replicas)
        if there == self._ring.nodes:
            return
        self._ring = Ring(there)
        for gone in self._held.keys() - there:
            for key in self._held.pop(gone):
                self._drop(key, gone)
        for new in sorted(there - self._held.keys()):
            self._held[new] = OrderedDict()

    def ranked(self, modules: Sequence[str], loads: Mapping[str, int]) -> Iterator[str]:
        """Every replica, the best for a request first; overloaded ones come last.

        `modules` are the keys of those that the request names; `loads` says how many requests
        each replica has. A request that names none goes where there are fewest.
        """
        most = self._capacity(loads)
        overloaded = []
        for name in self._ordered(modules, loads):
            if loads.get(name, 0) < most:
                yield name
            else:
                overloaded.append(name)
        yield from overloaded

    def sent(self, modules: Iterable[str], replica: str) -> None:
        """Remember that a replica has been sent a request with these modules."""
        held = self._held.get(replica)
        if held is None:
            return  # it has left meanwhile
        for key in modules:
            held[key] = None
            held.move_to_end(key)
            self._holders.setdefault(key, {})[replica] = None
        while len(held) > self._remembered:
            self._drop(held.popitem(last=False)[0], replica)

    def _ordered(self, modules: Sequence[str], loads: Mapping[str, int]) -> Iterator[str]:
        """Every replica, by what it holds of the modules, and then by whose homes it is."""
        if not self._ring.nodes:
            return
        if not modules:
            yield from sorted(self._ring.nodes, key=lambda name: (loads.get(name, 0), name))
            return
        holding = Counter(name for key in modules for name in self._holders.get(key, ()))
        homes = Counter(self._ring.home(key) for key in modules)
        known = dict.fromkeys([*holding, *homes])
        yield from sorted(known, key=lambda n: (-holding[n], -homes[n], loads.get(n, 0)))
        yield from (name for name in self._ring.walk(modules[0]) if name not in known)

    def _capacity(self, loads: Mapping[str, int]) -> int:
        """How many requests one replica may have, if one more comes."""
        count = len(self._ring.nodes)
        total = 1 + sum(loads.get(name, 0) for name in self._ring.nodes)
        return max(self._places, ceil(self._bound * total / max(1, count)))

    def _drop(self, key: str, replica: str) -> None:
        holders = self._holders[key]
        del holders[replica]
        if not holders:
            del self._holders[key]
