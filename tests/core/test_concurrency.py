"""One engine under many threads and asyncio tasks, and tenants that share one store."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Barrier, Lock

import pytest

from promptcache import (
    DiskStore,
    Exact,
    FirstK,
    HostStore,
    MemoryStore,
    Modular,
    NoReuse,
    PromptCache,
    Selective,
    Store,
    Tiers,
)
from promptcache.background import in_thread
from promptcache.kv import KV
from promptcache.reuse import ReusePolicy
from promptcache.store import PRIVATE
from support.library import DOCUMENTS, SYSTEM, messages
from support.words import byte_tokenizer
from support.zoo import model

MIB = 1 << 20
REQUESTS, THREADS, TASKS = 500, 8, 64
PATIENCE = 300
"""Seconds after which whoever still waits is taken to wait for ever."""
POLICIES = (Modular(), Modular(), FirstK(3), Selective(0.3), Exact(), NoReuse())


@dataclass(frozen=True)
class Asked:
    """A request, greedy without a seed."""

    order: tuple[int, ...]
    policy: ReusePolicy
    seed: int | None

    def pieces(self, cache: PromptCache) -> Iterator[str]:
        """The answer's text as it comes."""
        sampled = {} if self.seed is None else {"do_sample": True, "seed": self.seed}
        asked = messages(*self.order)
        with cache.stream_messages(asked, max_new_tokens=3, reuse=self.policy, **sampled) as stream:
            yield from stream
            assert stream.reply.usage.input_tokens > 0

    def answer(self, cache: PromptCache) -> str:
        """The whole answer."""
        with closing(self.pieces(cache)) as pieces:  # type: ignore[type-var]
            return "".join(pieces)


def requests(count: int) -> list[Asked]:
    """Random requests, most of them more than once."""
    rng = random.Random(count)
    distinct = [
        Asked(
            tuple(rng.sample(range(len(DOCUMENTS)), rng.randint(1, 3))),
            rng.choice(POLICIES),
            rng.choice([None, None, 7]),
        )
        for _ in range(count // 5)
    ]
    return rng.choices(distinct, k=count)


class Counting(MemoryStore):
    """Counts how often each module was put: as often as it was encoded."""

    def __init__(self, budget: int) -> None:
        super().__init__(budget)
        self.puts: Counter[str] = Counter()
        self._counting = Lock()

    def put(self, key: str, kv: KV) -> bool:
        if not key.startswith(PRIVATE):
            with self._counting:
                self.puts[key] += 1
        return super().put(key, kv)


def engine(store: Store | None = None, **options: object) -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer(), store=store, **options)  # type: ignore[arg-type]
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def answers_at_once(cache: PromptCache, asked: list[Asked]) -> list[str]:
    """Half of the answers by threads, half by asyncio tasks, at the same time."""
    half = len(asked) // 2
    begin = Barrier(2)

    async def in_tasks() -> list[str]:
        turns = asyncio.Semaphore(TASKS)

        async def answer(request: Asked) -> str:
            async with turns:
                pieces = in_thread(lambda: request.pieces(cache))  # type: ignore[arg-type,return-value]
                return "".join([piece async for piece in pieces])

        begin.wait(PATIENCE)
        return list(await asyncio.gather(*map(answer, asked[half:])))

    def in_threads() -> list[str]:
        with ThreadPoolExecutor(THREADS) as pool:
            begin.wait(PATIENCE)
            return list(pool.map(lambda request: request.answer(cache), asked[:half]))

    with ThreadPoolExecutor(2) as both:
        first: Future[list[str]] = both.submit(in_threads)
        second: Future[list[str]] = both.submit(lambda: asyncio.run(in_tasks()))
        return [*first.result(PATIENCE), *second.result(PATIENCE)]


@pytest.mark.parametrize(("count", "compression"), [(REQUESTS, None), (100, "int8")])
def test_threads_and_tasks_get_the_answers_of_one_by_one_and_encode_each_module_once(
    count: int, compression: str | None
) -> None:
    asked = requests(count)
    alone = engine(Counting(64 * MIB), compression=compression)
    expected = {request: request.answer(alone) for request in dict.fromkeys(asked)}
    store = Counting(64 * MIB)
    found = answers_at_once(engine(store, compression=compression), asked)
    assert found == [expected[request] for request in asked]
    assert isinstance(alone.store, Counting)
    assert store.puts == alone.store.puts
    assert set(store.puts.values()) == {1}
    store.check_integrity()


def test_answers_stay_right_while_everything_is_evicted_and_read_from_disk(tmp_path: Path) -> None:
    asked = requests(60)
    alone = engine()
    expected = {request: request.answer(alone) for request in dict.fromkeys(asked)}
    store = Tiers(HostStore(30_000), DiskStore(tmp_path, 60_000))
    cache = engine(store)
    with ThreadPoolExecutor(1) as other:
        evictions = other.submit(lambda: [store.evict() for _ in range(200)])
        assert answers_at_once(cache, asked) == [expected[request] for request in asked]
        evictions.result(PATIENCE)
    store.flush(PATIENCE)
    store.check_integrity()


@pytest.mark.parametrize("option", ["namespace", "compression"])
def test_a_tenant_neither_finds_nor_counts_nor_lists_what_another_has(
    tmp_path: Path, option: str
) -> None:
    mine, theirs = {"namespace": ("a", "b"), "compression": ("int8", "int4")}[option]
    store = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB))
    first = engine(store, **{option: mine})
    first.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
    question = messages(0, 1)
    first.generate_messages(question, max_new_tokens=8)
    warm = first.generate_messages(question, max_new_tokens=2)
    assert warm.usage.reused_tokens > 0 == warm.usage.encoded
    held = set(store.keys())

    cold = engine(MemoryStore(MIB), **{option: theirs})
    expected = cold.generate_messages(question, max_new_tokens=2)
    second = engine(store, **{option: theirs})
    got = second.generate_messages(question, max_new_tokens=2)
    assert (got.usage, got.token_ids) == (expected.usage, expected.token_ids)
    assert [span.tier for span in got.trace.spans] == [s.tier for s in expected.trace.spans]
    assert not {span.key for span in got.trace.spans} & held
    runs = second._library.held()
    assert runs and not set(runs.values()) & held
    assert not {first._library.key(run) for run in runs} & set(runs.values())
    kept = set(store.keys())
    assert second.forget_documents(DOCUMENTS) == len(DOCUMENTS)
    assert held <= set(store.keys()) < kept


def test_every_key_that_a_tenant_makes_is_its_own() -> None:
    keys = {}
    for namespace in ("", "a", "b"):
        cache = engine(namespace=namespace)
        cache.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
        cache.generate_messages(messages(2, 0), max_new_tokens=12)
        cache.refine(progress=False)
        keys[namespace] = set(cache.store.keys())
        assert any(key.startswith(PRIVATE) for key in keys[namespace])
        assert len(keys[namespace]) > len(DOCUMENTS)
    assert not keys[""] & keys["a"] | keys["a"] & keys["b"] | keys[""] & keys["b"]
