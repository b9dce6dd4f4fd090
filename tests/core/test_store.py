"""The conformance suite of a store tier, over every tier there is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from promptcache.kv import KV, join
from promptcache.store import HostStore, MemoryStore, Store

TIERS: list[Callable[[int], Store]] = [MemoryStore, HostStore]
BYTES_PER_TOKEN = 2 * 2 * 4 * 4


def states(tokens: int, start: int = 0) -> KV:
    tensor = torch.arange(2 * tokens * 4, dtype=torch.float32).reshape(2, tokens, 4)
    return KV((tensor,), (tensor + 1,), start)


@pytest.fixture(params=TIERS, ids=lambda tier: tier.__name__)
def tier(request: pytest.FixtureRequest) -> Callable[[int], Store]:
    return request.param  # type: ignore[no-any-return]


def test_what_was_put_is_got_and_counted(tier: Callable[[int], Store]) -> None:
    store = tier(10_000)
    assert store.put("a", states(3))
    kv = store.get("a")
    assert kv is not None and torch.equal(kv.keys[0], states(3).keys[0])
    assert store.nbytes == 3 * BYTES_PER_TOKEN
    assert store.get("b") is None


def test_the_least_recently_used_goes_first(tier: Callable[[int], Store]) -> None:
    store = tier(3 * BYTES_PER_TOKEN)
    for name in "abc":
        store.put(name, states(1))
    store.get("a")
    store.put("d", states(1))
    assert store.keys() == ["c", "a", "d"]


def test_what_is_pinned_stays_and_what_cannot_fit_is_refused(tier: Callable[[int], Store]) -> None:
    store = tier(3 * BYTES_PER_TOKEN)
    store.pin("a")
    store.put("a", states(2))
    store.put("b", states(1))
    assert not store.put("c", states(2))
    assert store.put("d", states(1))
    assert store.keys() == ["a", "d"]
    store.unpin("a")
    assert store.evict() == 3 * BYTES_PER_TOKEN


@given(
    st.lists(
        st.tuples(st.sampled_from("pgdnu"), st.sampled_from("abcdef"), st.integers(1, 5)),
        max_size=60,
    )
)
def test_no_history_exceeds_the_budget_or_loses_a_pinned_entry(
    events: list[tuple[str, str, int]],
) -> None:
    for make in TIERS:
        store = make(6 * BYTES_PER_TOKEN)
        pinned: set[str] = set()
        for event, name, tokens in events:
            held = set(store.keys()) & pinned
            if event == "p":
                store.put(name, states(tokens))
            elif event == "g":
                store.get(name)
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
            store.check_integrity()
            assert held & pinned <= set(store.keys())


def test_slices_of_states_join_to_the_whole() -> None:
    whole = states(7, start=3)
    again = join([whole.slice(0, 2), whole.slice(2, 6), whole.slice(6, 7)])
    assert torch.equal(again.keys[0], whole.keys[0])
    assert torch.equal(again.values[0], whole.values[0])
    assert (again.start, again.tokens) == (3, 7)
