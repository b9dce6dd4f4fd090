"""What all tests share: no time limit for an example, and the command line in this process."""

from __future__ import annotations

import sys

import pytest
from hypothesis import settings

from support.commands import Cli

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    from promptcache.cli import main  # imports much that most tests do not need

    monkeypatch.setenv("COLUMNS", "160")  # no table breaks a name, however long its figures are

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["promptcache", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
