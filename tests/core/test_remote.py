"""The remote tier: shared by machines, slow, failing, damaged; and tiers behind one another."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Timer
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem

from promptcache import DiskStore, MemoryStore, PromptCache, RemoteStore, Reply, Tiers
from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.model.efforts import Efforts
from promptcache.store import Effort, behind
from promptcache.store.filesystem import FileSystem
from promptcache.store.folder import DAMAGED, SUFFIX, UNFINISHED
from support.bare import bare
from support.faulty import FaultyFileSystem, Trouble, nothing
from support.library import DOCUMENTS, messages
from support.words import byte_tokenizer
from support.zoo import model

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    FaultyFileSystem.trouble = staticmethod(nothing)
    FaultyFileSystem.calls.clear()
    MemoryFileSystem.store.clear()


def states(number: int = 1) -> KV:
    tensor = torch.full((2, 20, 4), number, dtype=torch.bfloat16)
    return KV((tensor, tensor + 1), (tensor + 2, tensor + 3), side={"rank": torch.arange(20)})


def is_right(kv: KV | None, number: int) -> bool:
    if kv is None:
        return False
    pairs = zip((*kv.keys, *kv.values), (*states(number).keys, *states(number).values), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


def trouble(told: Trouble) -> None:
    FaultyFileSystem.trouble = staticmethod(told)


def eventually(true: Callable[[], bool]) -> None:
    """Wait for what is done in the background."""
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def engine(store: Any, **options: Any) -> PromptCache:
    cache = PromptCache(
        model("llama"), byte_tokenizer(), store=store, conversations=False, **options
    )
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def asked(cache: PromptCache, *order: int) -> Reply:
    return cache.generate_messages(messages(*order), max_new_tokens=6)


def tiers_of(reply: Reply) -> set[str | None]:
    return {span.tier for span in reply.trace.spans if span.module}


@pytest.mark.parametrize("place", ["memory://bucket/prefix", "file"])
def test_what_one_machine_encodes_another_reads_from_the_remote(tmp_path: Path, place: str) -> None:
    url = place if "://" in place else (tmp_path / "made" / "here").as_uri()
    first = engine(url)
    expected = asked(first, 3, 1, 4)
    assert isinstance(first.store, Tiers)
    first.store.flush()
    second = engine(url)
    for tier in ("remote", "memory"):
        reply = asked(second, 3, 1, 4)
        assert reply.token_ids == expected.token_ids
        assert reply.usage.encoded == 0
        assert tiers_of(reply) == {tier}


def test_what_is_found_far_away_is_kept_in_every_nearer_tier(tmp_path: Path) -> None:
    far = RemoteStore("memory://far")
    first = Tiers(MemoryStore(MIB), far)
    first.put("a", states())
    first.flush()
    near = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB), far)
    for tier in ("remote", "memory"):
        found = near.find("a")
        assert found is not None and found[1] == tier and is_right(found[0], 1)
    near.flush()
    assert is_right(DiskStore(tmp_path, MIB).get("a"), 1)
    near.evict()
    assert (near.find("a") or ("", ""))[1] == "disk"


def test_stores_are_named_by_folders_and_urls_in_order_of_speed(tmp_path: Path) -> None:
    small = MemoryStore(MIB)
    for given, expected in (
        ("memory://x", ["memory", "remote"]),
        ([tmp_path, "memory://x"], ["memory", "disk", "remote"]),
        ([small, str(tmp_path)], ["memory", "disk"]),
    ):
        store = PromptCache(model("llama"), byte_tokenizer(), store=given).store  # type: ignore[arg-type]
        assert isinstance(store, Tiers)
        assert [tier.tier for tier in store.tiers] == expected
    assert store.memory is small


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nowhere://bucket", "no known place"),
        ("memroy://bucket", "did you mean 'memory'"),
        ("gs://bucket", r"pip install 'promptcache\[gcs\]'"),
    ],
)
def test_urls_that_nothing_can_open_are_refused_and_say_what_to_install(
    url: str, said: str
) -> None:
    with pytest.raises(OptionError, match=said):
        RemoteStore(url)


def test_settings_of_remotes_and_tiers_are_checked() -> None:
    for setting in ("timeout", "write_timeout", "rest"):
        for value in (0, math.inf, math.nan, 1e12, True, "5"):
            with pytest.raises(OptionError, match=f"{setting}={value!r}.*seconds, more than 0"):
                RemoteStore("memory://x", **{setting: value})
    for value in (0, 0.5, True, math.inf):
        with pytest.raises(OptionError, match=f"workers={value!r}.*1 or more"):
            RemoteStore("memory://x", workers=value)  # type: ignore[arg-type]
    for value in (-1, 0.5):
        with pytest.raises(OptionError, match=f"waiting={value!r}.*0 or more"):
            Tiers(MemoryStore(MIB), waiting=value)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="'memory' is no tier"):
        Tiers("memory")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="no tier"):
        Tiers()


def test_without_fsspec_everything_else_works_and_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    assert engine(None).store.tier == "memory"
    with pytest.raises(OptionError, match=r"pip install 'promptcache\[remote\]'"):
        RemoteStore("file:///tmp/nothing")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data[:40],
        lambda data: b"",
        lambda data: data[:-5] + bytes([data[-5] ^ 1]) + data[-4:],
        lambda data: data.replace(b'"start":"0"', b'"start":"1"'),
        lambda data: data.replace(b'"promptcache":"1"', b'"promptcache":"9"'),
        lambda data: b"not safetensors at all, but long enough to look at",
        lambda data: (2**60).to_bytes(8, "little") + data[8:],
    ],
)
def test_a_damaged_object_is_missing_and_moved_out_of_the_way(
    damage: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    store = RemoteStore("faulty://far")
    assert store.put("a", states())
    fs = FaultyFileSystem()
    data = fs.cat_file(f"/far/a{SUFFIX}")
    fs.pipe_file(f"/far/a{SUFFIX}", damage(data))
    assert store.get("a") is None
    eventually(lambda: fs.exists(f"/far/{DAMAGED}/a{SUFFIX}"))
    assert not store.keys()
    [warning] = caplog.records
    assert f"a{SUFFIX}" in warning.message and "moved to damaged/" in warning.message
    assert store.put("a", states())
    assert is_right(store.get("a"), 1)


def damaged(key: str) -> None:
    fs = FaultyFileSystem()
    data = fs.cat_file(f"/far/{key}{SUFFIX}")
    fs.pipe_file(f"/far/{key}{SUFFIX}", data[:-1])


def test_a_good_object_is_never_moved_in_the_place_of_a_damaged_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, other = RemoteStore("faulty://far"), RemoteStore("faulty://far")
    assert store.put("a", states())
    damaged("a")
    go_on = Event()
    move = FileSystem.move

    def slowly(self: FileSystem, name: str, folder: str) -> None:
        assert go_on.wait(60)
        move(self, name, folder)

    monkeypatch.setattr(FileSystem, "move", slowly)
    assert store.get("a") is None
    Timer(0.2, go_on.set).start()
    assert store.put("a", states()), "it waits until the damaged one is out of the way"
    assert is_right(other.get("a"), 1)
    damaged("a")
    assert store.get("a") is None and other.get("a") is None
    assert store.put("a", states(2)) and is_right(store.get("a"), 2)
    eventually(lambda: all(moving.done() for moving in other._damaged.values()))
    assert is_right(store.get("a"), 2), "what the other found damaged is there no more"


def test_a_damaged_object_that_cannot_be_moved_is_said_once_and_written_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refused(self: FileSystem, name: str, folder: str) -> None:
        raise PermissionError("it may not be deleted")

    monkeypatch.setattr(FileSystem, "move", refused)
    store = RemoteStore("faulty://far")
    assert store.put("a", states())
    damaged("a")
    for _ in range(3):
        assert store.get("a") is None
        eventually(lambda: all(moving.done() for moving in store._damaged.values()))
    found, moved = caplog.records
    assert "is moved to damaged/" in found.message and "cannot move" in moved.message
    assert store.put("a", states())
    assert is_right(store.get("a"), 1)


def test_an_object_under_another_key_is_not_served() -> None:
    store = RemoteStore("faulty://far")
    store.put("a", states(1))
    FaultyFileSystem().copy(f"/far/a{SUFFIX}", f"/far/b{SUFFIX}")
    assert store.get("b") is None
    assert is_right(store.get("a"), 1)


def test_the_same_states_are_uploaded_once_by_all_machines() -> None:
    for _ in range(3):
        assert RemoteStore("faulty://far").put("a", states())
    written = FaultyFileSystem.calls["write"]
    assert written == 1
    ranked = KV(states().keys, states().values, side={"other": torch.arange(20)})
    assert RemoteStore("faulty://far").put("a", ranked)
    assert FaultyFileSystem.calls["write"] == 2


def test_what_is_being_written_is_not_there_and_what_fails_leaves_nothing() -> None:
    store = RemoteStore("faulty://far")
    seen: list[bool] = []

    def fail(what: str, path: str) -> None:
        if what == "write":
            seen.append(path.endswith(UNFINISHED) and not RemoteStore("faulty://far").keys())
            raise OSError("the line is cut")

    trouble(fail)
    assert not store.put("a", states())
    assert seen == [True]
    trouble(nothing)
    assert not FaultyFileSystem().find("/far")


def test_one_request_waits_for_a_hanging_remote_and_the_next_ones_do_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    writer = RemoteStore("faulty://far")
    for number in range(5):
        writer.put(f"k{number}", states(number))
    FaultyFileSystem.calls.clear()
    go_on = Event()
    trouble(lambda what, path: go_on.wait() and None)
    store = RemoteStore("faulty://far", timeout=0.05, rest=600)
    keys = [f"k{number}" for number in range(5)]
    try:
        assert store.find_all(keys) == {}
        assert FaultyFileSystem.calls["read"] <= 5
        calls = FaultyFileSystem.calls.copy()
        for _ in range(20):
            assert store.find_all(keys) == {}
            assert not store.put("new", states())
        assert FaultyFileSystem.calls == calls
    finally:
        go_on.set()
    assert [record.message for record in caplog.records] == [
        "cannot read attention states in faulty:///far: TimeoutError: no answer within 0.05 "
        "seconds; going on without"
    ]


def test_what_comes_in_time_is_served_though_the_rest_comes_late() -> None:
    store = RemoteStore("faulty://far", timeout=2, rest=600)
    for number in range(3):
        store.put(f"k{number}", states(number))
    go_on = Event()
    trouble(lambda what, path: (go_on.wait() and None) if "k1" in path else None)
    try:
        assert sorted(store.find_all(["k0", "k1", "k2"])) == ["k0", "k2"]
        assert is_right(store.get("k0"), 0)  # a remote that answers at all is asked again
    finally:
        go_on.set()


def test_a_failing_remote_is_asked_again_after_a_rest_and_serves_again() -> None:
    store = RemoteStore("faulty://far", rest=0.05)
    store.put("a", states())

    def fail(what: str, path: str) -> None:
        raise ConnectionError("nobody there")

    trouble(fail)
    assert store.get("a") is None
    trouble(nothing)
    eventually(lambda: is_right(store.get("a"), 1))


def test_a_remote_that_cannot_be_written_to_is_still_read(
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = RemoteStore("faulty://far", rest=600)
    store.put("a", states())

    def fail(what: str, path: str) -> None:
        if what == "write":
            raise PermissionError("you may only read")

    trouble(fail)
    for name in ("b", "c"):
        assert not store.put(name, states())
        assert is_right(store.get("a"), 1)
    assert FaultyFileSystem.calls["write"] == 2  # the second one of them rested
    assert len(caplog.records) == 1
    assert not store.delete("a")
    assert "may still be there" in caplog.records[-1].message


def test_requests_are_answered_without_a_remote_that_fails(
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = [asked(engine(None), *order).token_ids for order in ((0, 1), (1, 0, 2))]

    def fail(what: str, path: str) -> None:
        raise ConnectionError("nobody there")

    trouble(fail)
    cache = engine("faulty://far")
    replies = [asked(cache, *order) for order in ((0, 1), (1, 0, 2))]
    assert [reply.token_ids for reply in replies] == expected
    notes = {span.note for span in replies[0].trace.spans if span.module}
    assert notes == {"missed, encoded now"}
    assert isinstance(cache.store, Tiers)
    cache.store.flush()
    warnings = [record.message for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == len(set(warnings)) <= 2  # reading, and writing
    assert all("ConnectionError: nobody there" in warning for warning in warnings)


def test_what_a_failing_remote_did_not_take_is_written_when_it_is_used_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(behind, "TRIED_AGAIN", 0)
    store = Tiers(MemoryStore(MIB), RemoteStore("faulty://far", rest=0.01))

    def fail(what: str, path: str) -> None:
        raise ConnectionError("nobody there")

    trouble(fail)
    store.put("a", states())
    store.flush()
    trouble(nothing)

    def written() -> bool:
        store.get("a")
        store.flush()
        return RemoteStore("faulty://far").keys() == ["a"]

    eventually(written)


def test_a_remote_that_hangs_does_not_keep_the_process_from_ending() -> None:
    ran = bare(
        "sys.path.insert(0, sys.argv[1])\n"
        "import time\n"
        "from support.faulty import FaultyFileSystem\n"
        "from promptcache.store.remote import RemoteStore\n"
        "FaultyFileSystem.trouble = staticmethod(lambda what, path: time.sleep(10_000))\n"
        "print(RemoteStore('faulty://far', timeout=0.01).find_all(['a', 'b']))\n",
        Path(__file__).parents[1],
    )
    said, _ = ran.communicate(timeout=300)
    assert (said, ran.returncode) == ("{}\n", 0)


def loaded_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tiers:
    """Tiers that know how long reading takes; whatever is saved is worth a choice."""
    monkeypatch.setattr(behind, "SAVED", 0)
    DiskStore(tmp_path, MIB).put("a", states())
    store = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB))
    for _ in range(4):
        assert (store.find("a") or ("", ""))[1] == "disk"
        store.evict()
    return store


def test_what_takes_longer_to_read_than_to_encode_is_not_read_nor_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = loaded_often(tmp_path, monkeypatch)
    nbytes = states().nbytes
    assert store.find_all(["a"], {"a": Effort(0.0, nbytes)}) == {"a": (None, "disk")}
    store.put("a", states(9))
    store.flush()
    assert is_right(DiskStore(tmp_path, MIB).get("a"), 1)
    store.evict()
    kv, tier = store.find_all(["a"], {"a": Effort(1e9, nbytes)})["a"]
    assert (tier, is_right(kv, 1)) == ("disk", True)


def test_a_tier_that_was_too_slow_is_tried_again_after_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = loaded_often(tmp_path, monkeypatch)
    monkeypatch.setattr(behind, "TRIED_AGAIN", 0)
    kv, _ = store.find_all(["a"], {"a": Effort(0.0, states().nbytes)})["a"]
    assert is_right(kv, 1)


def test_answers_do_not_depend_on_whether_a_module_is_read_or_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "SAVED", 0)
    cache = engine(tmp_path)
    assert isinstance(cache.store, Tiers)
    expected = asked(cache, 2, 0)
    cache.store.flush()
    for _ in range(4):
        cache.store.evict()
        assert asked(cache, 2, 0).token_ids == expected.token_ids
    monkeypatch.setattr(Efforts, "of", lambda self, tokens, times: Effort(0.0, 1000 * tokens))
    cache.store.evict()
    reply = asked(cache, 2, 0)
    assert reply.token_ids == expected.token_ids
    notes = {span.note for span in reply.trace.spans if span.module}
    assert notes == {"not read from disk, which takes longer, encoded now"}


def test_the_cost_of_encoding_is_known_in_every_tier_and_after_a_restart(tmp_path: Path) -> None:
    cache = engine([tmp_path, "memory://far"])
    asked(cache, 0, 1)
    assert isinstance(cache.store, Tiers)
    cache.store.flush()
    for store in (cache.store.memory, DiskStore(tmp_path), RemoteStore("memory://far")):
        costs = [kv.cost for kv in map(store.get, store.keys()) if kv]
        assert len(costs) == 3
        assert all(cost and 0 < cost < 600 for cost in costs)
