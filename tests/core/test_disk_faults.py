"""What goes wrong with disks: killed writers, damaged files, no room, no folder."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from promptcache import DiskStore, PromptCache, Tiers
from promptcache.kv import KV
from promptcache.store.folder import DAMAGED, UNFINISHED
from promptcache.store.format import DamagedFileError
from promptcache.store.states import decoded, told_by
from support.bare import bare
from support.library import DOCUMENTS, messages
from support.words import byte_tokenizer
from support.zoo import model

MIB = 1 << 20
TOKENS = 500
WRITER = """
import io, time
from pathlib import Path
from promptcache.store import format as files
from promptcache.store.folder import Folder

folder, first = Folder(Path(sys.argv[1]), 10 << 20), int(sys.argv[2])
assert "torch" not in sys.modules

def slowly(file):  # so that it dies in the middle more often than not
    whole = io.BytesIO()
    files.write(whole, head, parts)
    for begin in range(0, len(whole.getvalue()), 8_000):
        file.write(whole.getvalue()[begin : begin + 8_000])
        file.flush()
        time.sleep(0.001)

for number in range(first, first + 10_000):
    key = f"k{number}"
    data = memoryview(number.to_bytes(4, "little") * (2 * 500 * 4))
    parts = [files.Part(name, "I32", (2, 500, 4), data) for name in ("key.0", "value.0")]
    head = files.header(files.about(key, 0, parts), parts)
    folder.write(key, files.size(head, parts), slowly)
    print(key, flush=True)
"""


def states(number: int, tokens: int = TOKENS) -> KV:
    tensor = torch.full((2, tokens, 4), number, dtype=torch.int32)
    return KV((tensor,), (tensor,))


def is_right(kv: KV | None, number: int, tokens: int = TOKENS) -> bool:
    if kv is None:
        return False
    expected = states(number, tokens)
    return torch.equal(kv.keys[0], expected.keys[0]) and torch.equal(
        kv.values[0], expected.values[0]
    )


def killed_writers(folder: Path, kills: int) -> None:
    """Kill a writer so many times; then all that it said it wrote must be there, and right."""
    rng = random.Random(kills)
    said: list[str] = []
    for kill in range(kills):
        writer = bare(WRITER, folder, kill * 10_000)
        assert writer.stdout is not None
        said.append(writer.stdout.readline().strip())
        time.sleep(rng.uniform(0, 0.02))
        os.kill(writer.pid, signal.SIGKILL)
        said += writer.stdout.read().split()
        writer.wait()
        writer.stdout.close()
    store = DiskStore(folder, 10 * MIB)
    there = store.keys()
    unsaid = set(there) - set(said)  # written, and killed before it could say so
    kept = said[len(unsaid) - len(there) :]
    assert kept == [key for key in there if key not in unsaid], "the newest ones are not all there"
    assert len(unsaid) <= kills <= len(kept)
    assert all(is_right(store.get(key), int(key[1:])) for key in there)
    assert not (folder / DAMAGED).exists()
    assert store.put("another", states(0))
    assert not list(folder.glob(f"*{UNFINISHED}")), "a dead writer's file stays"
    store.check_integrity()


def test_a_writer_that_is_killed_at_any_moment_loses_and_damages_nothing(tmp_path: Path) -> None:
    killed_writers(tmp_path, 20)


@pytest.mark.stress
def test_two_hundred_killed_writers_lose_and_damage_nothing(tmp_path: Path) -> None:
    killed_writers(tmp_path, 200)


def test_two_writers_at_once_keep_the_budget_and_each_others_files(tmp_path: Path) -> None:
    writers = [bare(WRITER, tmp_path, first) for first in (0, 50_000)]
    largest = 0
    for _ in range(60):
        time.sleep(0.01)
        sizes = 0
        for path in tmp_path.glob("*.*"):
            with suppress(FileNotFoundError):
                sizes += path.stat().st_size
        largest = max(largest, sizes)
    for writer in writers:
        writer.kill()
        writer.communicate()
    assert 0 < largest <= 10 * MIB
    store = DiskStore(tmp_path, 10 * MIB)
    there = store.keys()
    assert {len(key) > 5 for key in there} == {True, False}
    assert all(is_right(store.get(key), int(key[1:])) for key in there)


def damage_of(path: Path) -> list[tuple[str, bytes]]:
    """Every way to damage a small file: a bit of each byte, a cut at each, and others."""
    whole = path.read_bytes()
    rng = random.Random(1)
    flipped = [
        whole[:place] + bytes([whole[place] ^ 1 << rng.randrange(8)]) + whole[place + 1 :]
        for place in range(len(whole))
    ]
    cut = [whole[:length] for length in range(0, len(whole), 7)]
    return [
        *(("flipped", data) for data in flipped),
        *(("cut", data) for data in cut),
        ("longer", whole + b"\0"),
        ("version", whole.replace(b'"promptcache":"1"', b'"promptcache":"2"')),
        ("zeros", bytes(len(whole))),
    ]


def test_damage_of_any_kind_is_noticed_set_aside_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(tmp_path, MIB)
    store.put("a", states(1, tokens=1))
    path = store.folder.path_of("a")
    whole = path.read_bytes()
    for kind, data in damage_of(path):
        path.write_bytes(data)
        caplog.clear()
        again = DiskStore(tmp_path, MIB)
        assert again.get("a") is None, kind
        assert again.get("a") is None
        assert again.keys() == []
        assert (tmp_path / DAMAGED / path.name).read_bytes() == data
        assert len(caplog.records) == 1
        assert str(path) in caplog.text
    assert store.put("a", states(1, tokens=1))
    assert path.read_bytes() == whole
    assert is_right(DiskStore(tmp_path, MIB).get("a"), 1, tokens=1)


def test_files_that_were_swapped_are_served_under_neither_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(tmp_path, MIB)
    for number in (1, 2):
        store.put(f"k{number}", states(number))
    one, two = (store.folder.path_of(key) for key in ("k1", "k2"))
    one.rename(tmp_path / "kept")
    two.rename(one)
    (tmp_path / "kept").rename(two)
    assert store.get("k1") is store.get("k2") is None
    assert "holds the states of another key, 'k2'" in caplog.text
    store.put("k1", states(1))
    assert is_right(store.get("k1"), 1)


def test_what_was_set_aside_goes_first_when_room_is_needed(tmp_path: Path) -> None:
    store = DiskStore(tmp_path, 3 * (states(0).nbytes + 512))
    for number in range(3):
        store.put(f"k{number}", states(number))
    store.folder.path_of("k2").write_bytes(b"damaged" * 4_000)
    assert DiskStore(tmp_path, MIB).get("k2") is None
    assert (tmp_path / DAMAGED / "k2.kv.safetensors").exists()
    store.put("k3", states(3))
    assert store.keys() == ["k0", "k1", "k3"]
    assert not (tmp_path / DAMAGED / "k2.kv.safetensors").exists()


def test_a_file_that_cannot_be_read_is_a_miss_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unmapped(*_: object, **__: object) -> None:
        raise RuntimeError("mmap failed: Cannot allocate memory")

    store = DiskStore(tmp_path, MIB)
    for number in range(3):
        store.put(f"k{number}", states(number))
    with monkeypatch.context() as patch:
        patch.setattr("promptcache.store.states.safe_open", unmapped)
        assert [store.get(f"k{number}") for number in range(3)] == [None] * 3
        with pytest.raises(OSError, match="Cannot allocate memory"):
            told_by(store.folder.path_of("k1"))
        assert store.put("k1", states(1))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot read attention states" in caplog.text
    assert all(is_right(store.get(f"k{number}"), number) for number in range(3))


def larger_than_allowed(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The kernel itself refuses to write more than a few bytes."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))


def read_only(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Calls that change something fail as on a read-only disk, also where none can be mounted."""
    plain = os.open

    def refusing(path: str | Path, flags: int, *rest: int, **named: int) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR) and str(path).startswith(str(folder)):
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return plain(path, flags, *rest, **named)

    def untouchable(path: str | Path, **times: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    patch.setattr(os, "open", refusing)
    patch.setattr(os, "utime", untouchable)


def deleted(folder: Path, patch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder)


@pytest.fixture
def _limits_restored() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.usefixtures("_limits_restored")
@pytest.mark.parametrize("fault", [larger_than_allowed, read_only, deleted])
def test_a_disk_that_fails_under_a_running_engine_fails_no_request(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[Path, pytest.MonkeyPatch], None],
) -> None:
    folder = tmp_path / "store"
    plain = PromptCache(model("llama"), byte_tokenizer())
    plain.cache_documents(DOCUMENTS, progress=False)
    cache = PromptCache(model("llama"), byte_tokenizer(), store=folder)
    store = cache.store
    assert isinstance(store, Tiers)
    cache.cache_documents(DOCUMENTS, progress=False)
    asked = [messages(0, 1), messages(2, 0), messages(3, 4, 5)]
    expected = [plain.generate_messages(each, max_new_tokens=4).token_ids for each in asked]
    assert cache.generate_messages(asked[0], max_new_tokens=4).token_ids == expected[0]
    store.flush()
    there = store.tiers[1].keys()
    with monkeypatch.context() as patch:
        fault(folder, patch)
        caplog.clear()
        store.evict()
        given = [cache.generate_messages(each, max_new_tokens=4).token_ids for each in asked]
        store.flush()
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    assert given == expected
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1
    assert "cannot write attention states" in caplog.text
    assert set(store.tiers[1].keys()) <= set(there)
    assert not list(folder.glob(f"*{UNFINISHED}"))


NAMESPACE = ["unshare", "--map-root-user", "--mount"]


def can_mount() -> bool:
    """Whether a process may have file systems of its own, as any may on most kinds of Linux."""
    try:
        subprocess.run([*NAMESPACE, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.mark.skipif(not can_mount(), reason="no file system of one's own can be mounted")
def test_requests_are_answered_on_a_disk_that_is_full_and_on_one_that_is_read_only(
    tmp_path: Path,
) -> None:
    ran = subprocess.run(
        [*NAMESPACE, sys.executable, "-m", "support.small_disk", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    full, read_only = json.loads(ran.stdout)
    for (fault, right, warned, kept), error in (
        (full, "No space left on device"),
        (read_only, "Read-only file system"),
    ):
        assert right, fault
        assert len(warned) == 1 and error in warned[0], (fault, warned)
        assert 0 < kept < len(DOCUMENTS) + 1, fault
    assert full[3] == read_only[3]


@pytest.mark.parametrize("wrong", ["dtype", "start"])
def test_whole_files_that_are_no_states_of_ours_are_set_aside(tmp_path: Path, wrong: str) -> None:
    store = DiskStore(tmp_path, MIB)
    tensor = torch.zeros(2, 3, 4, dtype=torch.uint16 if wrong == "dtype" else torch.bfloat16)
    start = "9" * 5_000 if wrong == "start" else "0"
    told = {"promptcache": "1", "key": "k1", "start": start, "checksum": "none"}
    data = save({"key.0": tensor, "value.0": tensor.clone()}, told)
    path = store.folder.path_of("k1")
    path.write_bytes(data)
    assert store.get("k1") is None
    assert not path.exists() and store.folder.damaged() == 1
    with pytest.raises(DamagedFileError):
        decoded(data, "k1")
