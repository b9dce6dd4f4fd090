"""Replicas that are simulated, behind the router that serves: request by request, in order.

What a replica holds and how fast it is are inputs; simulation.py makes a table of what comes out.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import islice

from promptcache.errors import OptionError
from promptcache.ray.routing import BOUND, Routing
from promptcache.ray.workload import Workload

Choose = Callable[[Sequence[str]], str]
"""Says which replica a request with these modules goes to."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One replica: what it holds, and how long what it does takes. Bytes, and seconds.

    `read` and `copy` are bytes per second: from the store to it, and from its memory to where the
    model is. `encode` is for a module that nobody has encoded, `prefill` for the new tokens of a
    request, and `answer` from the first token to the last, of `places` requests at once.
    """

    memory: int = 500_000_000_000
    module: int = 67_108_864
    read: float = 1.0e9
    copy: float = 25.0e9
    encode: float = 0.1
    prefill: float = 0.02
    answer: float = 2.0
    places: int = 8

    @property
    def modules(self) -> int:
        """How many modules it holds."""
        return self.memory // self.module


@dataclass(slots=True)
class Figures:
    """What was counted: look-ups by where they ended, requests by replica, and times."""

    hits: int = 0
    read: int = 0
    encoded: int = 0
    ttft: list[float] = field(default_factory=list)
    asked: dict[str, int] = field(default_factory=dict)
    began: float = 0.0
    ended: float = 0.0

    @property
    def lookups(self) -> int:
        """How many modules were looked up."""
        return self.hits + self.read + self.encoded

    def quantile(self, share: float) -> float:
        """The time to the first token that this share of requests does not exceed."""
        ordered = sorted(self.ttft)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Simulated:
    """A replica: its memory, its link and its processor; who comes first is served first."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._memory: OrderedDict[str, None] = OrderedDict()
        self._places = [0.0] * machine.places
        self._link = 0.0
        self._processor = 0.0

    def serve(
        self, now: float, modules: Sequence[str], store: set[str] | None, counted: Figures
    ) -> float:
        """Serve a request that comes now; when it is done. A store that is None has everything."""
        machine, memory = self._machine, self._memory
        begins = ready = max(now, heappop(self._places))
        work = machine.prefill + len(modules) * machine.module / machine.copy
        for key in modules:
            if key in memory:
                counted.hits += 1
            elif store is None or key in store:
                counted.read += 1
                self._link = max(begins, self._link) + machine.module / machine.read
                ready = self._link
            else:
                counted.encoded += 1
                work += machine.encode
                store.add(key)
            memory[key] = None
            memory.move_to_end(key)
        while len(memory) > machine.modules:
            memory.popitem(last=False)
        self._processor = max(ready, self._processor) + work
        counted.ttft.append(self._processor - now)
        done = self._processor + machine.answer
        heappush(self._places, done)
        return done


def simulate(
    workload: Workload,
    machine: Machine,
    *,
    replicas: int,
    routing: str,
    warm: int,
    measured: int,
    ahead: bool = True,
    bound: float = BOUND,
    seed: int = 0,
) -> Figures:
    """Serve `warm` requests, and then `measured` more that are counted, by one way of routing.

    `routing` is one of ROUTINGS. The store has all documents `ahead`, or what was encoded since.
    Raises OptionError for another routing, or no replica.
    """
    if replicas < 1 or routing not in ROUTINGS:
        raise OptionError(
            f"replicas={replicas}, routing={routing!r}: expected one at least, and a routing of "
            f"{', '.join(ROUTINGS)}"
        )
    nodes = {f"replica {n}": Simulated(machine) for n in range(replicas)}
    loads = dict.fromkeys(nodes, 0)
    choose = ROUTINGS[routing](loads, machine, bound, random.Random(seed + 1))
    store: set[str] | None = None if ahead else set()
    running: list[tuple[float, str]] = []
    counted = Figures()
    for number, (now, documents) in enumerate(islice(workload.requests(seed), warm + measured)):
        if number == warm:
            counted = Figures(asked=dict.fromkeys(nodes, 0), began=now)
        while running and running[0][0] <= now:
            loads[heappop(running)[1]] -= 1
        modules = [str(document) for document in documents]
        name = choose(modules)
        loads[name] += 1
        counted.asked[name] = counted.asked.get(name, 0) + 1
        heappush(running, (nodes[name].serve(now, modules, store, counted), name))
        counted.ended = now
    return counted


def _by_modules(
    loads: dict[str, int], machine: Machine, bound: float, rng: random.Random
) -> Choose:
    routing = Routing(bound, machine.places, max(1, machine.modules))
    routing.update(loads)

    def choose(modules: Sequence[str]) -> str:
        best = next(routing.ranked(modules, loads))
        routing.sent(modules, best)
        return best

    return choose


def _balanced(loads: dict[str, int], machine: Machine, bound: float, rng: random.Random) -> Choose:
    names = list(loads)
    return lambda modules: min(rng.choices(names, k=2), key=loads.__getitem__)


def _at_random(loads: dict[str, int], machine: Machine, bound: float, rng: random.Random) -> Choose:
    names = list(loads)
    return lambda modules: rng.choice(names)


ROUTINGS = {"modules": _by_modules, "balanced": _balanced, "random": _at_random}
"""Ways to route: ours; the less loaded of any two, as Ray Serve does; and any replica."""
