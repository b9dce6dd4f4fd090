"""Writing in the background: no threads, stores that raise, deadlines, forked processes."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

import pytest
import torch

from promptcache import DiskStore, MemoryStore, RemoteStore, Tiers
from promptcache.kv import KV
from promptcache.store import behind, tiers, writing
from support.bare import bare

MIB = 1 << 20


def states(number: int = 1) -> KV:
    tensor = torch.full((2, 20, 4), number, dtype=torch.bfloat16)
    return KV((tensor,), (tensor + 1,))


def no_thread(thread: Thread) -> None:
    raise RuntimeError("can't start new thread")


def test_what_no_thread_could_write_is_written_when_there_are_threads_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB))
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", no_thread)
        for name in "ab":
            assert store.put(name, states())
    assert [record.message for record in caplog.records] == [
        "states cannot be written to the disk: can't start new thread: some are written later"
    ]
    assert store.unwritten == 2
    assert store.put("c", states())
    store.get("a")
    store.flush(60)
    assert sorted(store.tiers[1].keys()) == ["a", "b", "c"]


def test_a_remote_without_threads_is_missing_and_is_asked_again_when_there_are_some(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    RemoteStore("memory://threads").put("a", states())
    store = RemoteStore("memory://threads", timeout=60, rest=0.001, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", no_thread)
        assert store.get("a") is None
    assert "RuntimeError: can't start new thread" in caplog.text
    time.sleep(0.01)  # the rest
    assert store.get("a") is not None


class Failing(DiskStore):
    """A disk that raises what no disk should, once."""

    failed = False

    def put(self, key: str, kv: KV) -> bool:
        if not self.failed:
            self.failed = True
            raise ValueError("what is this?")
        return super().put(key, kv)


def test_what_a_tier_raised_at_is_given_to_it_again_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Tiers(MemoryStore(MIB), Failing(tmp_path, MIB))
    store.put("a", states())
    store.flush(60)
    assert "a was not written to the disk" in caplog.text
    store.get("a")
    store.flush(60)
    assert store.tiers[1].keys() == []  # a while has to pass
    monkeypatch.setattr(behind, "TRIED_AGAIN", 0)
    store.get("a")
    store.flush(60)
    assert store.tiers[1].keys() == ["a"]


def test_flush_waits_as_long_as_it_is_told_for_all_tiers_and_entries_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    go_on = Event()

    class Slow(DiskStore):
        """Takes a second for each entry, as its clock has it."""

        def put(self, key: str, kv: KV) -> bool:
            now[0] += 1
            if now[0] > 3:
                go_on.wait(2)
            return super().put(key, kv)

    monkeypatch.setattr(tiers, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(writing, "time", SimpleNamespace(monotonic=lambda: now[0]))
    store = Tiers(MemoryStore(MIB), *(Slow(tmp_path / name, MIB) for name in "ab"))
    with monkeypatch.context() as patch:
        patch.setattr(Thread, "start", no_thread)
        for name in "xy":
            store.put(name, states())
    with pytest.raises(TimeoutError, match="still wait to be written"):
        store.flush(2.5)
    go_on.set()
    store.flush()
    assert [sorted(tier.keys()) for tier in store.tiers] == [["x", "y"]] * 3


FORKED = """
import os, signal, time
sys.path.insert(0, sys.argv[1])
import torch
from promptcache.kv import KV
from promptcache.store.disk import DiskStore
from promptcache.store.memory import MemoryStore
from promptcache.store.remote import RemoteStore
from promptcache.store.tiers import Tiers

tensor = torch.zeros(2, 20, 4)
store = Tiers(MemoryStore(1 << 20), DiskStore(sys.argv[2], 1 << 20), RemoteStore(sys.argv[3]))
store.put("before", KV((tensor,), (tensor,)))
store.flush()
os.fsync = lambda handle: time.sleep(0.3)
store.put("while", KV((tensor,), (tensor,)))
time.sleep(0.1)  # the disk's writer holds its locks now
child = os.fork()
if not child:
    signal.alarm(100)
    for tier in store.tiers:
        assert tier.get("before") is not None, tier
    assert store.put("after", KV((tensor,), (tensor,)))
    store.flush(60)
    os._exit(0)
store.flush()
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status))
"""


def test_a_forked_process_reads_and_writes_with_threads_of_its_own(tmp_path: Path) -> None:
    disk, far = tmp_path / "disk", tmp_path / "far"
    ran = bare(FORKED, Path(__file__).parents[1], disk, far.as_uri())
    said, _ = ran.communicate(timeout=300)
    assert said == "0\n"
    for store in (DiskStore(disk, MIB), RemoteStore(far.as_uri())):
        assert sorted(store.keys()) == ["after", "before", "while"]
