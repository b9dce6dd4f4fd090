"""The conformance suite of a store tier, over every tier there is."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcache.kv import KV, join
from promptcache.store import (
    PRIVATE,
    DiskStore,
    HostStore,
    MemoryStore,
    RemoteStore,
    Store,
    Tiers,
)
from promptcache.store.expecting import room_for
from promptcache.store.places import places, tiers_of

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

        def remote(budget: int) -> Store:
            return RemoteStore(f"memory://{next(made)}", timeout=60)

        def local(budget: int) -> Store:
            return Tiers(MemoryStore(budget), HostStore(budget), disk(budget))

        def far(budget: int) -> Store:
            return Tiers(MemoryStore(budget), disk(budget), remote(budget))

        yield {
            "memory": MemoryStore,
            "host": HostStore,
            "disk": disk,
            "remote": remote,
            "memory, disk": both,
            "memory, host, disk": local,
            "memory, disk, remote": far,
        }


@pytest.fixture(
    params=[
        "memory",
        "host",
        "disk",
        "remote",
        "memory, disk",
        "memory, host, disk",
        "memory, disk, remote",
    ]
)
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


def test_where_entries_are_and_what_they_take_there_is_told_tier_by_tier(tier: Tier) -> None:
    store = tier(budget(9))
    store.put("a", states(2))
    store.put("b", states(1))
    if isinstance(store, Tiers):
        store.flush(60)
    told = places(store, {"a", "b", "c"})
    for each in tiers_of(store):
        assert sum(there[each.tier] for there in told.values()) == each.nbytes
        assert told["a"][each.tier] > told["b"][each.tier] >= BYTES_PER_TOKEN
    assert told.keys() == {"a", "b"}
    store.delete("a")
    assert places(store, {"a"}) == {}


def test_several_are_looked_for_at_once_and_what_is_not_there_is_left_out(tier: Tier) -> None:
    store = tier(budget(9))
    for name in "ab":
        store.put(name, states(2))
    found = store.find_all(["a", "x", "b", f"{PRIVATE}y"])
    assert {name: kv.tokens for name, (kv, _) in found.items() if kv} == {"a": 2, "b": 2}
    assert store.holding(["b", "x"]) == {"b"}
    store.delete("b")
    assert store.holding(["b", "x"]) == set()


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
    assert freed == (0 if isinstance(store, DiskStore | RemoteStore) else 2 * BYTES_PER_TOKEN)
    assert (store.get("a") is not None) == lasting
    assert store.get("b") is not None


def test_states_of_one_process_are_kept_in_memory_only(tier: Tier) -> None:
    store = tier(budget(9))
    in_memory = not isinstance(store, DiskStore | RemoteStore)
    assert store.put(f"{PRIVATE}a", states(1)) == in_memory
    assert (store.get(f"{PRIVATE}a") is not None) == in_memory
    if isinstance(store, Tiers):
        store.flush()
    while store.evict():
        pass
    assert store.get(f"{PRIVATE}a") is None
    assert store.keys() == []


@settings(max_examples=60, deadline=None)
@given(
    events=st.lists(
        st.tuples(st.sampled_from("pgdnu"), st.sampled_from("abcdef"), st.integers(1, 5)),
        max_size=60,
    )
)
def test_no_history_exceeds_the_budget_or_loses_a_pinned_entry(
    tiers: dict[str, Tier], events: list[tuple[str, str, int]]
) -> None:
    for make in (tiers[name] for name in tiers if "remote" not in name):
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


@pytest.mark.parametrize("make", [MemoryStore, HostStore])
def test_what_cost_more_to_encode_outlives_what_cost_less_but_not_for_ever(make: Tier) -> None:
    store = make(budget(4))
    store.put("dear", replace(states(1), cost=0.4))
    for number in range(20):
        store.put(f"cheap{number}", replace(states(1), cost=0.1 + number / 1000))
        store.check_integrity()
        lived = number
        if not store.holding(["dear"]):
            break
    assert 4 < lived < 20
    assert store.keys()[-1] == f"cheap{lived}"


@pytest.mark.parametrize(("days", "first"), [(3, "cheap"), (9, "dear")])
def test_a_file_that_cost_more_to_encode_may_be_unused_for_longer(
    tmp_path: Path, days: int, first: str
) -> None:
    store = DiskStore(tmp_path, budget(2))
    for name, cost, age in (("dear", 0.4, days), ("cheap", 0.1, 1)):
        store.put(name, replace(states(1), cost=cost))
        used = time.time() - age * 86_400
        os.utime(store.folder.path_of(name), (used, used))
    store = DiskStore(tmp_path, budget(2))
    store.put("new", states(1))
    assert set(store.keys()) == {"dear", "cheap", "new"} - {first}


def test_states_of_unknown_cost_count_as_the_others_do() -> None:
    store = MemoryStore(budget(3))
    for name, cost in (("a", None), ("b", 0.1), ("c", None)):
        store.put(name, replace(states(1), cost=cost))
    for name in "abc":
        store.get(name)
    store.put("d", states(1))
    store.put("e", states(1))
    assert store.keys() == ["c", "d", "e"]


def test_room_is_made_for_states_on_their_way_and_none_for_those_that_never_fit() -> None:
    store = MemoryStore(4 * BYTES_PER_TOKEN)
    for name in "abcd":
        store.put(name, states(1))
    with room_for(store, [BYTES_PER_TOKEN, 5 * BYTES_PER_TOKEN, BYTES_PER_TOKEN]) as take:
        assert store.keys() == ["c", "d"]
        store.put("other", states(1))
        assert store.keys() == ["d", "other"]
        take()
        store.put("first", states(1))
        assert store.keys() == ["d", "other", "first"]
        take()
        assert not store.put("larger than all", states(5))
        assert store.keys() == ["d", "other", "first"]
    store.put("last", states(1))  # what did not come needs no room any more
    assert store.keys() == ["d", "other", "first", "last"]
    for name in "other", "first", "last":
        store.pin(name)
    with room_for(store, [2 * BYTES_PER_TOKEN]):
        assert store.keys() == ["d", "other", "first", "last"], "pins leave no such room"
    store.check_integrity()


def test_slices_of_states_join_to_the_whole() -> None:
    whole = states(7, start=3)
    again = join([whole.slice(0, 2), whole.slice(2, 6), whole.slice(6, 7)])
    assert torch.equal(again.keys[0], whole.keys[0])
    assert torch.equal(again.values[0], whole.values[0])
    assert (again.start, again.tokens) == (3, 7)
