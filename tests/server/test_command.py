"""`promptcache key` and `promptcache serve`: what they print, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promptcache.server.command import tiers
from promptcache.server.keys import Keys
from promptcache.store import DiskStore, MemoryStore
from support.commands import Cli


def test_key_prints_a_key_that_the_file_then_knows(cli: Cli, tmp_path: Path) -> None:
    status, out, _ = cli("key", tmp_path / "keys", "legal")
    assert status == 0
    assert Keys.read(tmp_path / "keys").namespace_of(out.strip()) == "legal"


def test_places_and_budgets_are_those_that_serve_is_given(tmp_path: Path) -> None:
    memory, disk, url = tiers([str(tmp_path), "file:///elsewhere"], "1MB", "3 MB") or ()
    assert isinstance(memory, MemoryStore)
    assert isinstance(disk, DiskStore)
    assert (memory.budget, disk.budget, url) == (10**6, 3 * 10**6, "file:///elsewhere")
    assert disk.folder.path == tmp_path
    assert tiers(["a", "b"], None, None) == ["a", "b"]
    assert tiers([], None, None) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("key", "keys", "le gal"), "the namespace 'le gal' is not a name"),
        (("key", "no/folder/keys", "legal"), "cannot be written"),
        (("serve", "pocket", "--keys", "none"), "the keys file 'none' cannot be read"),
        (("serve", "pocket", "--concurrency", "0"), "concurrency=0 is not a number above 0"),
        (("serve", "."), "it has no config.json"),
        (("serve", "pocket", "--reuse", "Magic"), "unknown reuse policy 'Magic'"),
        (("serve", "pocket", "--context", "none"), "context='none'"),
        (("serve", "pocket", "--compression", "int3"), "compression='int3'"),
        (("serve", "pocket", "--memory", "much"), "--memory 'much' is no number of bytes"),
        (("serve", "pocket", "--budget", "2GB"), "give --store FOLDER with it"),
        (("serve", "pocket", "--store", "s3://b/c", "--budget", "2GB"), "is for folders"),
        (("serve", "pocket", "--recent", "-1"), "recent=-1 is not a number from 0"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    cli: Cli,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = cli(*arguments)
    assert status == 1
    assert message in err
    assert "Traceback" not in err


def test_without_its_packages_serve_says_what_to_install(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    status, _, err = cli("serve", "pocket")
    assert status == 1
    assert "pip install 'promptcache[server]'" in err
