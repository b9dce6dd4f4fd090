"""docs/langchain.md: its Python runs, and the markup it shows is what comes out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from core.text.tool_templates import QWEN_TOOLS
from promptcache import PromptCache, Stream
from support.rag import tiny_engine
from support.scripted import Script, call, roomy_model
from support.words import byte_tokenizer

PAGE = (Path(__file__).parents[2] / "docs" / "langchain.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.M)


def respond(prompt: str) -> str:
    """Search where that can be done, and then answer."""
    if prompt.endswith("</tool_response><|im_end|>\n"):
        return "412 metres."
    if "search_library" in prompt:
        return call("search_library", query="bridge")
    return call("Length", metres=412)


class Scripted(PromptCache):
    """Answers as `respond` says."""

    def stream_messages(self, messages: Sequence[Any], **options: Any) -> Stream:
        return super().stream_messages(messages, **options, logits_processor=[Script(respond)])


def calling_engine() -> PromptCache:
    return Scripted(roomy_model(), byte_tokenizer(QWEN_TOOLS))


def test_the_pages_code_runs_and_prints_its_markup(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engines = {"pocket": tiny_engine, "Qwen/Qwen3-0.6B": calling_engine}
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda model, **_: engines[model]())
    scope: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "langchain.md", "exec"), scope)
    (markup,) = blocks("xml")
    assert markup in capsys.readouterr().out
    assert scope["state"]["messages"][-1].text == "412 metres."
    assert scope["structured"].invoke("How long?")["parsed"].metres == 412
