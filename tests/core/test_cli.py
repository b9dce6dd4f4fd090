"""The command line: what it prints, and that every error is one sentence with status 1."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from promptcache import DiskStore
from promptcache.cli import main
from promptcache.kv import KV
from support.words import byte_tokenizer
from support.zoo import model

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptcache", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    model("llama").save_pretrained(tmp_path / "model")
    byte_tokenizer().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_lint_shows_the_tree_with_sizes(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "trip.pml"
    file.write_text('<schema name="trip"><module name="miami">Miami is hot.</module></schema>')
    status, out, _ = cli("lint", file)
    assert status == 0
    assert "miami" in out
    assert "13" in out


def test_lint_counts_tokens_with_a_models_tokenizer(cli: Cli, tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "trip.pml"
    file.write_text('<schema name="trip"><module name="miami">Miami is hot.</module></schema>')
    status, out, _ = cli("lint", file, "--model", folder)
    assert status == 0
    assert "13 tokens" in out


def test_lint_says_where_each_error_is(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "trip.pml"
    file.write_text(
        '<schema name="trip">\n  <modul name="a">A</modul>\n  <param name="p"/></schema>'
    )
    status, out, err = cli("lint", file)
    assert status == 1
    assert "line 2, column 3" in out + err
    assert "line 3" in out + err


def test_probe_says_how_a_models_keys_move(cli: Cli, folder: Path) -> None:
    status, out, _ = cli("probe", folder)
    assert status == 0
    assert "half-split rotary over the first 8 dimensions" in out
    assert "bytes per token" in out


@pytest.mark.parametrize("command", ["probe", "demo"])
def test_a_folder_that_is_no_model_ends_in_one_sentence(
    cli: Cli, tmp_path: Path, command: str
) -> None:
    arguments = [command, tmp_path] if command == "probe" else [command, "--model", tmp_path]
    status, _, err = cli(*arguments)
    assert status == 1
    assert err.startswith("error: ")
    assert "it has no config.json" in err
    assert "Traceback" not in err


def test_without_a_command_the_help_names_all_of_them(cli: Cli) -> None:
    _, out, err = cli("--help")
    for command in ("lint", "translate", "probe", "demo", "check", "bench"):
        assert command in out + err


def test_translate_writes_the_schema_of_a_prompt_program(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "trips_of_the_cli_test.py").write_text(
        "from promptcache import schema\n\n@schema\ndef trip(hot: bool):\n"
        '    "You plan trips."\n    if hot:\n        "Miami is hot."\n'
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    status, out, _ = cli("translate", "trips_of_the_cli_test:trip", "--name", "journey")
    assert status == 0
    assert out.startswith('<schema name="journey">')
    assert '<module name="hot">Miami is hot.</module>' in out
    status, _, err = cli("translate", "trips_of_the_cli_test:trip", "--documents", "context")
    assert status == 1
    assert "no variable of it holds documents" in err


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """A folder with three modules of two models, used one after another."""
    store = DiskStore(tmp_path / "kept", 10**6)
    for name, tokens in (("aaaa-1", 30), ("bbbb-2", 20), ("bbbb-3", 10)):
        tensor = torch.zeros(2, tokens, 64, dtype=torch.bfloat16)
        store.put(name, KV((tensor, tensor), (tensor, tensor)))
    return tmp_path / "kept"


def test_ls_lists_what_a_folder_holds_by_when_it_was_used(cli: Cli, kept: Path) -> None:
    DiskStore(kept, 10**6).get("aaaa-1")
    status, out, _ = cli("ls", kept)
    assert status == 0
    assert re.findall(r"^(\w{4}-\d)\s+(\w{4})\s+(\d+)\s+2\s+BF16", out, re.M) == [
        ("bbbb-2", "bbbb", "20"), ("bbbb-3", "bbbb", "10"), ("aaaa-1", "aaaa", "30"),
    ]  # fmt: skip
    assert "3 modules of 2 models, 6" in out


def test_verify_says_what_is_damaged_and_fails_until_it_is_set_aside(cli: Cli, kept: Path) -> None:
    order = DiskStore(kept, 10**6).keys()
    assert cli("verify", kept)[:2] == (0, "3 of 3 files are whole\n")
    assert DiskStore(kept, 10**6).keys() == order
    path = kept / "bbbb-2.kv.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    status, out, _ = cli("verify", kept)
    assert status == 1
    assert "bbbb-2.kv.safetensors has checksum crc32:" in out
    assert "2 of 3 files are whole" in out
    assert cli("verify", kept)[:2] == (0, "2 of 2 files are whole\n")
    assert "1 damaged files among them" in cli("ls", kept)[1]


def test_gc_keeps_a_budget_and_what_was_used_last(cli: Cli, kept: Path) -> None:
    for budget, left in (("1GB", 3), ("33kB", 2), ("32 KiB", 2), ("0", 0)):
        status, out, _ = cli("gc", kept, "--budget", budget)
        assert status == 0
        assert "freed" in out
        assert DiskStore(kept, 10**6).keys() == ["aaaa-1", "bbbb-2", "bbbb-3"][3 - left :]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ls", "nowhere"), "no folder 'nowhere'"),
        (("verify", "nowhere"), "no folder 'nowhere'"),
        (("gc", ".", "--budget", "much"), "'much' is no number of bytes"),
        (("gc", ".", "--budget", "2XB"), "'2XB' is no number of bytes"),
    ],
)
def test_what_is_no_folder_or_no_budget_is_one_sentence(
    cli: Cli, arguments: tuple[str, ...], message: str
) -> None:
    status, _, err = cli(*arguments)
    assert status == 1
    assert message in err
