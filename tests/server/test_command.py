"""`promptcache key` and `promptcache serve`: what they print, and what they refuse."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promptcache.server.keys import Keys
from support.commands import Cli


def test_key_prints_a_key_that_the_file_then_knows(cli: Cli, tmp_path: Path) -> None:
    status, out, _ = cli("key", tmp_path / "keys", "legal")
    assert status == 0
    assert Keys.read(tmp_path / "keys").namespace_of(out.strip()) == "legal"


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
