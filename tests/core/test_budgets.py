"""A library of ten times the budget: the memory that is taken, seen from outside the engine."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from promptcache import DiskStore, MemoryStore, Store, Tiers
from promptcache.kv import KV
from promptcache.layout import ModuleRun
from promptcache.library.encoding import Encoder
from support import cycling

HEAD_DIM = 16
BUDGET = cycling.budget_of(HEAD_DIM)
MODULE = cycling.module_bytes(HEAD_DIM)
ARENA = cycling.arena_bytes(HEAD_DIM)
OTHER = 8 * 2**20
"""Bytes that a process may come to need meanwhile for all that is no attention states."""


def tensor_bytes() -> int:
    """The bytes of all tensors that live in this process, each memory counted once."""
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), Tensor)]
    storages = [tensor.untyped_storage() for tensor in tensors]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("lasting", [False, True])
def test_tensors_never_take_more_than_the_budget_and_the_arena_in_flight(
    tmp_path: Path, lasting: bool
) -> None:
    store: Store = MemoryStore(BUDGET)
    if lasting:
        store = Tiers(store, DiskStore(tmp_path, 2 * BUDGET), waiting=MODULE)
    cache = cycling.engine(store, head_dim=HEAD_DIM)
    cache.cache_documents(cycling.TEXTS, progress=False)
    gc.collect()
    before = tensor_bytes()
    taken: list[int] = []
    cycling.cycle(
        cache, 60, lambda n: taken.append(tensor_bytes() - before) if n % 6 == 5 else None
    )
    assert max(taken) <= BUDGET + ARENA + MODULE * lasting
    assert taken[-1] > 0.8 * BUDGET, "the store is never full: nothing is seen of its budget"
    if isinstance(store, Tiers):
        store.flush()
        on_disk = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
        assert BUDGET < on_disk <= 2 * BUDGET + 8


@pytest.mark.parametrize("lasting", [False, True])
def test_requests_at_once_take_an_arena_each_beside_the_budget_and_no_more_are_at_once(
    tmp_path: Path, lasting: bool
) -> None:
    at_once = 3
    store: Store = MemoryStore(BUDGET)
    if lasting:
        store = Tiers(store, DiskStore(tmp_path, 2 * BUDGET), waiting=MODULE)
    cache = cycling.engine(store, head_dim=HEAD_DIM, at_once=at_once)
    cache.cache_documents(cycling.TEXTS, progress=False)
    gc.collect()
    before = tensor_bytes()
    taken: list[int] = []
    most = cycling.cycle_at_once(cache, 15, at_once, lambda: taken.append(tensor_bytes() - before))
    assert most == at_once
    assert BUDGET + ARENA < max(taken) <= BUDGET + at_once * ARENA + MODULE * lasting
    store.check_integrity()


@pytest.mark.parametrize("lasting", [False, True])
def test_a_full_store_makes_room_before_what_it_lacks_is_encoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    memory = MemoryStore(BUDGET)
    store: Store = Tiers(memory, DiskStore(tmp_path, BUDGET)) if lasting else memory
    cache = cycling.engine(store, head_dim=HEAD_DIM)
    cache.cache_documents(cycling.TEXTS, progress=False)
    cycling.cycle(cache, 6, lambda _: None)
    assert memory.nbytes > 0.8 * BUDGET
    taken: list[int] = []
    states = Encoder.states

    def watched(self: Encoder, runs: Sequence[ModuleRun], *given: Any) -> list[KV]:
        taken.append(memory.nbytes + sum(map(self.nbytes, runs)))
        return states(self, runs, *given)

    monkeypatch.setattr(Encoder, "states", watched)
    cycling.cycle(cache, 10, lambda _: None)
    assert len(taken) >= 10
    assert max(taken) <= BUDGET
    assert memory.nbytes > 0.8 * BUDGET, "what was made room for is not used"


def of_status(process: int, name: str) -> int:
    """A line of a process's status, in bytes."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"the system does not say {name}")


@pytest.mark.stress
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("lasting", [False, True])
def test_a_process_never_has_more_in_memory_than_budget_and_arena_in_two_thousand_requests(
    tmp_path: Path, lasting: bool
) -> None:
    budget, module = cycling.budget_of(128), cycling.module_bytes(128)
    arena = cycling.arena_bytes(128)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "MALLOC_MMAP_THRESHOLD_": "65536",  # what is freed is given back at once
    }
    command = [sys.executable, "-m", "support.cycling", "2000", *([str(tmp_path)] * lasting)]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None and child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        before = of_status(child.pid, "VmRSS")
        child.stdin.write("\n")
        child.stdin.flush()
        assert int(child.stdout.readline()) > 0.8 * budget
        peak = of_status(child.pid, "VmHWM") - before
        child.stdin.close()
    assert 0.8 * budget < peak <= budget + arena + module * lasting + OTHER
