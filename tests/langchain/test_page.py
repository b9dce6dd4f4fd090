"""docs/langchain.md: its Python runs, and the markup it shows is what comes out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from promptcache import PromptCache
from support.rag import tiny_engine

PAGE = (Path(__file__).parents[2] / "docs" / "langchain.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


def test_the_pages_code_runs_and_prints_its_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda *_, **__: tiny_engine())
    scope: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "langchain.md", "exec"), scope)
    (markup,) = blocks("xml")
    assert markup in capsys.readouterr().out
