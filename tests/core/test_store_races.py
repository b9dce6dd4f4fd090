"""Stores under bad luck: deleting while others look, unreadable folders, forks, forgers."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
import torch

from promptcache import DiskStore, MemoryStore, RemoteStore, Tiers
from promptcache.kv import KV
from promptcache.store import listing, lockfile, recent
from promptcache.store.folder import DAMAGED, SUFFIX
from promptcache.store.forgetting import Forgetting
from promptcache.store.identity import Identity
from promptcache.store.protocol import NO_EFFORTS, Effort
from support.bare import bare

MIB = 1 << 20


def states(cost: float | None = None) -> KV:
    tensor = torch.zeros(2, 20, 4)
    return KV((tensor,), (tensor,), cost=cost)


class Paused(MemoryStore):
    """Has found what it has when `found` is set, and gives it when `go_on` is."""

    def __init__(self) -> None:
        super().__init__(MIB)
        self.found, self.go_on = Event(), Event()

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        found = super().find_all(keys, efforts)
        self.found.set()
        assert self.go_on.wait(60)
        return found


def test_what_is_deleted_while_another_looks_for_it_comes_back_nowhere(tmp_path: Path) -> None:
    far = Paused()
    store = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB), far)
    far.put("a", states())
    far.put("b", states())
    seen: list[dict[str, Any]] = []
    looking = Thread(target=lambda: seen.append(store.find_all(["a", "b"])))
    looking.start()
    assert far.found.wait(60)
    assert store.delete("a")
    far.go_on.set()
    looking.join()
    store.flush()
    assert seen[0].keys() == {"a", "b"}, "who looked before has it"
    assert [sorted(tier.keys()) for tier in store.tiers] == [["b"]] * 3
    assert store.put("a", states()) and store.get("a") is not None
    store.flush()
    assert [sorted(tier.keys()) for tier in store.tiers] == [["a", "b"]] * 3


def test_what_is_found_is_kept_unless_it_is_being_deleted_or_was_meanwhile() -> None:
    kept: list[str] = []
    forgetting = Forgetting()

    def keep(key: str) -> bool:
        forgetting.keep(key, lambda: kept.append(key))
        return bool(kept and kept.pop())

    with forgetting.looking():
        assert keep("a")
        with forgetting.deleting("a"):
            assert not keep("a") and keep("b")
        assert not keep("a"), "who looks has found it before"
        forgetting.made("a")
        assert keep("a"), "it is another one"
        with forgetting.deleting("b"):
            pass
    assert keep("b"), "whoever looks now finds what is there now"
    with forgetting.deleting("b"):
        with forgetting.looking():
            assert not keep("b")
        assert not keep("b")


def test_a_folder_that_cannot_be_locked_costs_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def no_locks(handle: int, how: int) -> None:
        raise OSError(errno.ENOSYS, "not on this file system")

    monkeypatch.setattr(lockfile, "flock", no_locks)
    store = DiskStore(tmp_path, MIB)
    before = os.listdir("/proc/self/fd")
    for _ in range(20):
        assert not store.put("a", states())
    assert len(os.listdir("/proc/self/fd")) == len(before)
    assert len(caplog.records) == 1


def test_a_folder_that_cannot_be_read_for_a_moment_is_not_taken_for_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = states().nbytes + 2_000
    store, other = DiskStore(tmp_path, 2 * one), DiskStore(tmp_path, 2 * one)
    assert other.put("a", states()) and other.put("b", states())
    scandir = listing.os.scandir

    def busy(folder: object) -> Any:
        raise OSError(errno.EMFILE, "too many open files")

    assert sorted(store.keys()) == ["a", "b"]
    assert other.put("c", states())
    with monkeypatch.context() as patch:
        patch.setattr(listing.os, "scandir", busy)
        assert sorted(store.keys()) == ["a", "b"], "what was known"
        assert not store.put("d", states()), "there is no telling whether it has room"
    assert listing.os.scandir is scandir
    assert store.put("d", states())
    for each in (store, other):
        each.check_integrity()
        assert each.nbytes <= each.budget


def test_forgetting_leaves_nothing_that_was_set_aside(tmp_path: Path) -> None:
    disk, far = DiskStore(tmp_path / "disk", MIB), RemoteStore((tmp_path / "far").as_uri())
    for store, folder in ((disk, tmp_path / "disk"), (far, tmp_path / "far")):
        file, aside = folder / f"a{SUFFIX}", folder / DAMAGED / f"a{SUFFIX}"
        for there in (False, True):
            assert store.put("a", states())
            file.write_bytes(file.read_bytes()[:-1])
            assert store.get("a") is None
            if there:
                assert store.put("a", states())
            assert store.delete("a") is there
            assert not file.exists() and not aside.exists()
    assert disk.nbytes == 0
    disk.check_integrity()


def test_a_good_file_is_not_set_aside_for_a_bad_one_that_had_its_place(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, MIB)
    assert store.put("a", states())
    there = Identity.of(tmp_path / f"a{SUFFIX}")
    reused = there._replace(nbytes=there.nbytes - 1, written=there.written - 1)
    assert not store.folder.set_aside("a", reused)
    assert store.get("a") is not None
    assert store.folder.set_aside("a", Identity.of(tmp_path / f"a{SUFFIX}"))


@pytest.mark.parametrize("cost", [5e-324, 1.7e308, 1e-10])
def test_a_cost_that_cannot_be_is_not_believed(tmp_path: Path, cost: float) -> None:
    assert DiskStore(tmp_path, MIB).put("a", states(cost))
    store = Tiers(MemoryStore(MIB), DiskStore(tmp_path, MIB))
    found = store.get("a")
    assert found is not None and found.cost is None
    small = DiskStore(tmp_path, 2 * (states().nbytes + 1_000))
    assert all(small.put(name, states()) for name in "bcd")


def test_files_at_a_url_of_this_machine_are_for_their_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        store = RemoteStore((tmp_path / "far").as_uri())
        assert store.put("a", states())
    finally:
        os.umask(before)
    file = tmp_path / "far" / f"a{SUFFIX}"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_only_so_much_is_remembered_of_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(recent, "MOST", 10)
    kept: recent.Recent[int] = recent.Recent()
    for number in (*range(12), 5):
        kept[str(number)] = number
    assert list(kept) == ["2", "3", "4", "6", "7", "8", "9", "10", "11", "5"]
    disk = DiskStore(tmp_path, 3 * (states().nbytes + 2_000))
    for number in range(40):
        assert disk.put(f"k{number}", states()) and disk.get(f"k{number}") is not None
    assert len(disk._trusted) <= 10


FORKED = """
import os, signal, threading
import torch
from promptcache.kv import KV
from promptcache.library.claims import Claims
from promptcache.store.memory import MemoryStore

tensor = torch.zeros(2, 20, 4)
store = MemoryStore(1 << 20)
store.put("before", KV((tensor,), (tensor,)))
claims = Claims()
assert claims.claim("made", claims.now())[1]
inside, holding = threading.Event(), threading.Event()

def hold():
    with store._lock:
        inside.set()
        holding.wait(0.3)

threading.Thread(target=hold).start()
inside.wait()
child = os.fork()
if not child:
    signal.alarm(60)
    assert store.get("before") is not None
    assert claims.claim("made", claims.now())[1], "nobody makes it here"
    os._exit(0)
_, status = os.waitpid(child, 0)
assert store.get("before") is not None
print(os.waitstatus_to_exitcode(status))
"""


def test_no_lock_that_another_thread_held_is_held_in_a_forked_process() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", FORKED], check=False, capture_output=True, text=True, timeout=120
    )
    assert ran.stdout == "0\n", ran.stderr


LOCKED = """
import os, signal, time
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from promptcache.store.folder import Folder

folder = Folder(Path(sys.argv[2]), 1 << 20)
reading, writing = os.pipe()

def fill(file):
    if not os.fork():
        signal.alarm(60)
        os.read(reading, 1)  # until the parent is gone
        assert Folder(Path(sys.argv[2]), 1 << 20).write("b", 1, lambda file: file.write(b"b"))
        assert folder.write("c", 1, lambda file: file.write(b"c"))
        print("written", flush=True)
        os._exit(0)
    os.close(reading)
    os.close(writing)
    os.kill(os.getpid(), signal.SIGKILL)

folder.write("a", 1, fill)
"""


def test_the_lock_of_a_parent_that_died_is_free_in_its_child(tmp_path: Path) -> None:
    script = LOCKED.replace("os.read(reading, 1)", "os.close(writing); os.read(reading, 1)")
    ran = bare(script, Path(__file__).parents[1], tmp_path)
    said, _ = ran.communicate(timeout=120)
    assert said == "written\n"
