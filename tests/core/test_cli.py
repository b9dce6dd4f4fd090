"""The command line: what it prints, and that every error is one sentence with status 1."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from support.commands import Cli
from support.words import byte_tokenizer
from support.zoo import model


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
    for command in ("lint", "translate", "probe", "demo", "check", "bench", "encode", "import"):
        assert command in out + err


@pytest.mark.parametrize("group", [(), ("bench",)])
def test_a_list_of_commands_cuts_no_sentence(cli: Cli, group: tuple[str, ...]) -> None:
    _, out, err = cli(*group, "--help")
    listed = (out + err).partition("Commands:")[2]
    assert listed.count("\n") > 5
    assert "..." not in listed


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
