"""Two tenants of one server: can the time of a first request tell what the other has cached?"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import erfc, sqrt
from pathlib import Path
from time import perf_counter

from promptcache.bench.rows import Spread
from promptcache.bench.serving.process import ServerProcess, command
from promptcache.bench.serving.requests import Documents
from promptcache.remote.engine import RemoteEngine
from promptcache.trace import Provenance

QUESTION = "\n\nWhat is this about?"


@dataclass(frozen=True, slots=True)
class Report:
    """Seconds of one tenant's first requests: for texts that the other has cached, and others.

    `own` are those of its second requests, which its own modules serve; `shared` are keys that
    both tenants have modules under, and `reused` first requests that reused one: both none.
    """

    cached: Sequence[float]
    others: Sequence[float]
    own: Sequence[float]
    shared: int
    reused: int

    @property
    def chance(self) -> float:
        """How likely such a difference is where there is none (Mann-Whitney, two-sided)."""
        return mann_whitney(self.cached, self.others)

    def lines(self) -> Sequence[str]:
        """The report in sentences."""
        return [
            f"first request for a text that the other tenant has cached: {_spread(self.cached)}; "
            f"for another text: {_spread(self.others)}; second request: {_spread(self.own)}",
            f"chance of such a difference between the first two where there is none: "
            f"{self.chance:.2f} (Mann-Whitney); of that to the second request: "
            f"{mann_whitney([*self.cached, *self.others], self.own):.1g}",
            f"{self.shared} keys of both tenants' modules in common, {self.reused} first requests "
            "reused a module",
        ]


def run(folder: Path, model: str, texts: int) -> Report:
    """Have one tenant cache every other text, and another one ask for all, in random order."""
    keys = folder / "keys"
    one, other = (command("key", keys, name) for name in ("one", "other"))
    documents = list(Documents.made(texts).named.values())
    with ServerProcess(model, ["--keys", str(keys)]) as server:
        before, after = RemoteEngine(server.url, one), RemoteEngine(server.url, other)
        for text in documents[::2]:
            _asked(before, text)
        _asked(after, "Something else, to warm up.")
        firsts: dict[int, float] = {}
        reused = 0
        for number in random.Random(0).sample(range(texts), texts):
            firsts[number], served = _asked(after, documents[number])
            reused += served
        own = [_asked(after, text)[0] for text in documents]
        shared = len(set(before.modules()) & set(after.modules()))
    cached, others = ([firsts[n] for n in range(start, texts, 2)] for start in (0, 1))
    return Report(cached, others, own, shared, reused)


def _asked(engine: RemoteEngine, text: str) -> tuple[float, bool]:
    """Seconds of a request for one token, and whether it reused a module for the text."""
    marked = {"type": "text", "text": text, "cache_control": {"type": "ephemeral"}}
    content = [marked, {"type": "text", "text": QUESTION}]
    since = perf_counter()
    reply = engine.generate_messages([{"role": "user", "content": content}], max_new_tokens=1)
    seconds = perf_counter() - since
    spans = [span for span in reply.trace if span.text == text]
    return seconds, any(span.provenance is not Provenance.ENCODED for span in spans)


def mann_whitney(some: Sequence[float], others: Sequence[float]) -> float:
    """The two-sided chance, by the normal approximation, that both are of one distribution."""
    ranked = sorted([*((value, 0) for value in some), *((value, 1) for value in others)])
    ranks = sum(rank for rank, (_, which) in enumerate(ranked, 1) if which == 0)
    n, m = len(some), len(others)
    mean, deviation = n * m / 2, sqrt(n * m * (n + m + 1) / 12)
    distance = abs(ranks - n * (n + 1) / 2 - mean) / deviation
    return erfc(distance / sqrt(2))


def _spread(values: Sequence[float]) -> str:
    spread = Spread.of(values)
    return f"{1000 * spread.median:.1f} ms ({1000 * spread.low:.1f} to {1000 * spread.high:.1f})"
