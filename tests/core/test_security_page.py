"""docs/security.md: its Python runs, and the limits that it lists are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from promptcache import PromptCache
from promptcache.pml import checks
from promptcache.store.tiers import WAITING
from support.words import byte_tokenizer
from support.zoo import model

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text(encoding="utf-8")


def test_the_pages_code_runs_and_its_assertions_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny(_: str, **settings: Any) -> PromptCache:
        return PromptCache(model("llama"), byte_tokenizer(), **settings)

    monkeypatch.setattr(PromptCache, "from_pretrained", tiny)
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.M)
    assert sum(block.count("assert ") for block in blocks) == 3
    scope: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "security.md", "exec"), scope)


def test_the_pages_limits_are_those_of_the_code() -> None:
    for limit in (
        f"{checks.MARKUP_LIMIT:,} characters, {checks.ELEMENT_LIMIT:,} elements, "
        f"{checks.DEPTH_LIMIT} levels",
        f"| an attribute | {checks.ATTRIBUTE_LIMIT:,} characters",
        f"| {WAITING >> 20} MiB |",
    ):
        assert limit in PAGE
