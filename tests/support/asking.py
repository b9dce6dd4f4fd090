"""Requests at random, each held against the plain model, with evictions and restarts in between.

python -m support.asking FOLDER SEED REQUESTS is one of several processes that share a folder.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

from core.test_history import (
    DOCUMENTS,
    PREAMBLES,
    Marked,
    Request,
    check,
    engine_for,
)
from promptcache import (
    Exact,
    Expected,
    FirstK,
    Modular,
    NoReuse,
    PromptCache,
    Selective,
    Sensitive,
    Store,
    Tiers,
)

FAMILIES = ["llama", "gemma3", "mistral_windowed", "falcon_alibi", "qwen3"]
POLICIES = [Modular(), Selective(0.3), Sensitive(0.3), FirstK(3), Exact(), NoReuse()]
QUESTIONS = ["Which?", "Who said <|user|> so?", "Why " * 9]
PLANS = ["", "<plan/>", "<plan days='3'/>", "<plan days=''><note what='rain'/></plan>"]
PLACES = ["", "<miami/>", "<maui/>"]
TIMES = ["", "<now/>", "<now hour='nine'/>"]
SELDOM = 0.05
"""How likely it is that a request comes behind a restart, or behind an eviction."""


def request(rng: random.Random) -> Request | Marked:
    """Any prompt, under any policy."""
    policy = rng.choice(POLICIES)
    if rng.random() < 0.4:
        imports = [rng.choice(PLANS), rng.choice(PLACES), rng.choice(TIMES)]
        return Marked(tuple(rng.sample(imports, 3)), policy)
    documents = rng.sample(range(len(DOCUMENTS)), rng.randint(0, 5))
    preamble = rng.randrange(len(PREAMBLES))
    return Request(tuple(documents), preamble, policy, rng.choice(QUESTIONS))


def started(rng: random.Random, folder: Path) -> PromptCache:
    """An engine over the folder."""
    context = rng.choice(["preamble", Expected(("A.", "so"))])
    return engine_for(rng.choice(FAMILIES), context, folder)


def tiers_of(cache: PromptCache) -> tuple[Store, ...]:
    """What the engine keeps states in."""
    assert isinstance(cache.store, Tiers)
    return cache.store.tiers


def flush(cache: PromptCache) -> None:
    """Let the folder have all that the engine has."""
    assert isinstance(cache.store, Tiers)
    cache.store.flush()


def ask(folder: Path, seed: int, requests: int) -> int:
    """Ask so many times; how many of these prompts had something from a file."""
    rng = random.Random(seed)
    cache = started(rng, folder)
    from_disk = 0
    for _ in range(requests):
        happens = rng.random()
        if happens < SELDOM:
            flush(cache)
            cache = started(rng, folder)
        elif happens < 2 * SELDOM:
            cache.store.evict()
        elif happens < 2.2 * SELDOM:
            cache.refine(progress=False)
            cache.settle(60)
        trace, _ = check(cache, request(rng)).account
        from_disk += any(span.tier == "disk" for span in trace.spans)
        memory, disk = tiers_of(cache)
        memory.check_integrity()
        assert disk.nbytes <= disk.budget  # the other process may be writing: no more is settled
    flush(cache)
    return from_disk


if __name__ == "__main__":
    print(ask(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
