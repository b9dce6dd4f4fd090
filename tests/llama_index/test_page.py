"""docs/llama-index.md: its Python runs, and the markup it shows is what comes out."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_index.core
import pytest
from llama_index.core import Settings

from promptcache import PromptCache
from promptcache.recording import Recording
from support.llama import words_tokenizer
from support.rag import tiny_engine

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "llama-index.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


@pytest.fixture
def _restored() -> Iterator[None]:
    """LlamaIndex's settings as they were; tokens are counted without a download."""
    names = ("_llm", "_tokenizer", "_prompt_helper")
    before = {name: getattr(Settings, name) for name in names}
    counting = llama_index.core.global_tokenizer
    Settings.tokenizer = words_tokenizer
    yield
    llama_index.core.global_tokenizer = counting
    for name, value in before.items():
        setattr(Settings, name, value)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of LlamaIndex's own memory for chats
@pytest.mark.usefixtures("_restored")
def test_the_pages_code_runs_and_prints_its_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda *_, **__: tiny_engine())
    monkeypatch.chdir(ROOT)
    scope: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "llama-index.md", "exec"), scope)
    (markup,) = blocks("xml")
    assert markup in capsys.readouterr().out
    replies = scope["replies"]
    assert isinstance(replies, Recording)
    assert replies[-1].usage.reused_tokens > 0 and not replies[-1].usage.encoded
    scope["observation"].close()
    scope.clear()
    gc.collect()  # while what LlamaIndex leaves open is no error
