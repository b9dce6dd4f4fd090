"""Where requests go: the ring and the bounded loads by themselves."""

from __future__ import annotations

import random
from collections import Counter
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcache.errors import OptionError
from promptcache.ray.ring import Ring
from promptcache.ray.routing import Routing

NAMES = st.sets(st.text(min_size=1, max_size=8), min_size=1, max_size=12)
KEYS = st.lists(st.text(max_size=8), min_size=1, max_size=6)


def routing(*replicas: str, bound: float = 1.25, places: int = 1, remembered: int = 100) -> Routing:
    made = Routing(bound, places, remembered)
    made.update(replicas)
    return made


def best(made: Routing, keys: list[str], loads: dict[str, int] | None = None) -> str:
    return next(made.ranked(keys, loads or {}))


@given(NAMES, st.text(max_size=8))
def test_a_walk_visits_every_node_once_and_begins_at_home(nodes: set[str], key: str) -> None:
    walked = list(Ring(nodes).walk(key))
    assert len(walked) == len(nodes)
    assert set(walked) == nodes
    assert walked[0] == Ring(nodes).home(key)


@given(NAMES, st.text(max_size=8), st.text(min_size=9, max_size=9))
def test_a_node_that_comes_or_goes_leaves_the_order_of_all_others(
    nodes: set[str], key: str, new: str
) -> None:
    walked = list(Ring(nodes | {new}).walk(key))
    walked.remove(new)
    assert walked == list(Ring(nodes).walk(key))


def test_nodes_have_about_the_same_share_of_keys() -> None:
    nodes = [f"replica-{n}" for n in range(10)]
    ring = Ring(nodes)
    homes = Counter(ring.home(f"key-{n}") for n in range(20_000))
    assert set(homes) == set(nodes)
    assert max(homes.values()) < 1.5 * 2000
    assert min(homes.values()) > 0.5 * 2000


@given(NAMES, KEYS, st.randoms(use_true_random=False), st.floats(1.01, 4), st.integers(1, 8))
def test_no_replica_gets_more_than_its_bounded_share_while_another_has_room(
    nodes: set[str], keys: list[str], rng: random.Random, bound: float, places: int
) -> None:
    made = routing(*nodes, bound=bound, places=places)
    loads: Counter[str] = Counter()
    for _ in range(60):
        wanted = rng.sample(keys, rng.randint(1, len(keys)))
        most = max(places, ceil(bound * (loads.total() + 1) / len(nodes)))
        chosen = best(made, wanted, loads)
        assert loads[chosen] < most
        loads[chosen] += 1
        made.sent(wanted, chosen)
        for name in rng.sample(sorted(loads.elements()), loads.total() // 3):
            loads[name] -= 1


@given(NAMES, KEYS, st.dictionaries(st.text(min_size=1, max_size=8), st.integers(0, 20)))
def test_every_replica_is_ranked_once_whatever_its_load(
    nodes: set[str], keys: list[str], loads: dict[str, int]
) -> None:
    for wanted in (keys, []):
        assert sorted(routing(*nodes).ranked(wanted, loads)) == sorted(nodes)


def test_a_module_that_nobody_was_sent_goes_to_the_same_replica_from_every_router() -> None:
    nodes = ["a", "b", "c", "d"]
    for n in range(50):
        wanted = [f"document-{n}"]
        assert best(routing(*nodes), wanted) == best(routing(*reversed(nodes)), wanted)


def test_a_request_follows_most_of_its_modules() -> None:
    made = routing("a", "b", "c")
    made.sent(["one", "two", "three"], "b")
    made.sent(["four"], "c")
    assert best(made, ["four", "two", "three"]) == "b"
    assert best(made, ["four", "five"]) == "c"


def test_a_request_past_an_overloaded_replica_goes_to_the_next_one_on_the_ring() -> None:
    nodes = ["a", "b", "c", "d"]
    first, second, *_ = Ring(nodes).walk("popular")
    assert best(routing(*nodes, bound=1.5), ["popular"], {first: 2}) == second


def test_a_request_that_names_nothing_goes_where_there_are_fewest() -> None:
    assert best(routing("a", "b", "c"), [], {"a": 3, "b": 1, "c": 2}) == "b"


def test_what_a_replica_held_goes_with_it_and_with_what_it_was_sent_since() -> None:
    made = routing("a", "b", remembered=2)
    home = Ring(["a", "b"]).home("one")
    other = "b" if home == "a" else "a"
    made.sent(["one"], other)
    assert best(made, ["one"]) == other
    made.sent(["two", "three"], other)  # more than it is remembered to hold
    assert best(made, ["one"]) == home
    made.sent(["one"], other)
    made.update([home])
    made.sent(["one"], other)  # the answer that comes after its replica has left
    made.update(["a", "b"])
    assert best(made, ["one"]) == home


def test_a_bound_that_no_load_can_keep_is_refused() -> None:
    with pytest.raises(OptionError, match="above 1"):
        Routing(bound=1.0)
    with pytest.raises(OptionError, match="1 or more"):
        Routing(remembered=0)
