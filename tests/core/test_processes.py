"""Two processes that share a folder, asked at random, evicted and restarted: no wrong logits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from promptcache import DiskStore
from promptcache.store.folder import DAMAGED
from support.asking import ask


def test_an_engine_that_is_asked_at_random_is_right_and_reads_files(tmp_path: Path) -> None:
    assert ask(tmp_path, seed=1, requests=40) > 5


def two_processes(folder: Path, requests: int) -> None:
    """Let two processes ask so many times over one folder, and look at what they leave there."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "support.asking", str(folder)]
    processes = [
        subprocess.Popen(
            [*command, str(seed), str(requests // 2)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in (2, 3)
    ]
    for process in processes:
        out, err = process.communicate()
        assert process.returncode == 0, err
        assert int(out) > requests // 50
    assert not (folder / DAMAGED).exists()
    store = DiskStore(folder, 10**9)
    keys = store.keys()
    assert keys
    assert [store.verify(key) for key in keys] == [None] * len(keys)


def test_two_processes_over_one_folder_are_right(tmp_path: Path) -> None:
    two_processes(tmp_path, 260)


@pytest.mark.stress
def test_two_processes_are_right_ten_thousand_times(tmp_path: Path) -> None:
    two_processes(tmp_path, 10_000)
