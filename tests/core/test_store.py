"""The conformance suite of a store tier, over every tier there is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptcache.kv import KV, join
from promptcache.store import PRIVATE, DiskStore, HostStore, MemoryStore, Store, Tiers

Tier = Callable[[int], Store]
DIM = 256
BYTES_PER_TOKEN = 2 * 2 * DIM * 4
OVERHEAD = 512
"""Bytes that a file of these states has beside them, at most."""


def budget(tokens: int) -> int:
    """Bytes for so many tokens in entries of one token or more, and for no token more."""
    return tokens * (BYTES_PER_TOKEN + OVERHEAD)


def states(tokens: int, start: int = 0) -> KV:
    tensor = torch.arange(2 * tokens * DIM, dtype=torch.float32).reshape(2, tokens, DIM)
    return KV((tensor,), (tensor + 1,), start)


@pytest.fixture(scope="module", autouse=True)
def _no_waiting_for_the_disk() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(scope="module")
def tiers() -> Iterator[dict[str, Tier]]:
    """What makes an empty tier of so many bytes."""
    with TemporaryDirectory() as folder:
        made = iter(range(10**6))

        def disk(budget: int) -> Store:
            return DiskStore(Path(folder) / str(next(made)), budget)

        def both(budget: int) -> Store:
            return Tiers(MemoryStore(budget), disk(budget))

        yield {"memory": MemoryStore, "host": HostStore, "disk": disk, "tiers": both}


@pytest.fixture(params=["memory", "host", "disk", "tiers"])
def tier(request: pytest.FixtureRequest, tiers: dict[str, Tier]) -> Tier:
    return tiers[request.param]


@pytest.fixture(params=["memory", "host", "disk"])
def single(request: pytest.FixtureRequest, tiers: dict[str, Tier]) -> Tier:
    return tiers[request.param]


def test_what_was_put_is_found_and_counted_until_it_is_deleted(tier: Tier) -> None:
    store = tier(budget(3))
    assert store.put("a", states(3, start=5))
    found = store.find("a")
    assert found is not None
    kv, name = found
    assert name == store.tier
    assert torch.equal(kv.keys[0], states(3).keys[0])
    assert torch.equal(kv.values[0], states(3).values[0])
    assert kv.start == 5
    assert store.nbytes >= 3 * BYTES_PER_TOKEN
    assert store.find("b") is store.get("b") is None
    assert store.delete("a")
    assert not store.delete("a")
    assert store.get("a") is None
    assert store.nbytes == 0


def test_what_was_put_again_has_its_new_side_tensors(tier: Tier) -> None:
    store = tier(budget(8))
    first = states(2)
    store.put("a", first)
    store.put("a", KV(first.keys, first.values, side={"rank": torch.tensor([2.0, 1.0])}))
    kv = store.get("a")
    assert kv is not None and kv.side["rank"].tolist() == [2.0, 1.0]


def test_the_least_recently_used_goes_first(single: Tier) -> None:
    store = single(budget(3))
    for name in "abc":
        store.put(name, states(1))
    store.get("a")
    store.put("d", states(1))
    assert store.keys() == ["c", "a", "d"]


def test_what_is_pinned_stays_and_what_cannot_fit_is_refused(single: Tier) -> None:
    store = single(budget(3))
    store.pin("a")
    store.put("a", states(2))
    store.put("b", states(1))
    assert not store.put("c", states(2))
    assert store.put("d", states(1))
    assert store.keys() == ["a", "d"]
    store.unpin("a")
    assert store.put("c", states(2))
    assert store.keys() == ["d", "c"]


def test_giving_memory_back_spares_what_is_pinned_and_what_lies_on_disk(tier: Tier) -> None:
    store = tier(budget(9))
    for name in "ab":
        store.put(name, states(2))
    store.pin("b")
    freed = store.evict()
    lasting = not isinstance(store, MemoryStore)
    assert freed == (0 if isinstance(store, DiskStore) else 2 * BYTES_PER_TOKEN)
    assert (store.get("a") is not None) == lasting
    assert store.get("b") is not None


def test_states_of_one_process_are_kept_in_memory_only(tier: Tier) -> None:
    store = tier(budget(9))
    in_memory = not isinstance(store, DiskStore)
    assert store.put(f"{PRIVATE}a", states(1)) == in_memory
    assert (store.get(f"{PRIVATE}a") is not None) == in_memory
    store.evict()
    assert store.get(f"{PRIVATE}a") is None
    assert store.keys() == []


@given(
    events=st.lists(
        st.tuples(st.sampled_from("pgdnu"), st.sampled_from("abcdef"), st.integers(1, 5)),
        max_size=60,
    )
)
def test_no_history_exceeds_the_budget_or_loses_a_pinned_entry(
    tiers: dict[str, Tier], events: list[tuple[str, str, int]]
) -> None:
    for make in tiers.values():
        store = make(budget(6))
        pinned: set[str] = set()
        for event, name, tokens in events:
            held = set(store.keys()) & pinned
            if event == "p":
                store.put(name, states(tokens))
            elif event == "g":
                kv = store.get(name)
                assert kv is None or torch.equal(kv.keys[0], states(kv.tokens).keys[0])
            elif event == "n":
                store.pin(name)
                pinned.add(name)
            elif event == "u":
                store.unpin(name)
                pinned.discard(name)
            else:
                store.delete(name)
                pinned.discard(name)
                held.discard(name)
                assert name not in set(store.keys())
            if isinstance(store, Tiers):
                store.flush()
            store.check_integrity()
            assert held & pinned <= set(store.keys())


def test_slices_of_states_join_to_the_whole() -> None:
    whole = states(7, start=3)
    again = join([whole.slice(0, 2), whole.slice(2, 6), whole.slice(6, 7)])
    assert torch.equal(again.keys[0], whole.keys[0])
    assert torch.equal(again.values[0], whole.values[0])
    assert (again.start, again.tokens) == (3, 7)
