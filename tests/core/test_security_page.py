"""docs/security.md: its Python runs, and the limits that it lists are those of the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from promptcache import MemoryStore, PromptCache
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


def test_the_first_layers_values_alone_tell_the_tokens_as_the_page_says() -> None:
    network = model("llama")
    cache = PromptCache(network, byte_tokenizer(), store=MemoryStore(1 << 20))
    cache.cache_documents(["A secret."], preamble="Some text before it. ", progress=False)
    every = torch.arange(network.config.vocab_size)
    table = network(every[:, None], use_cache=True).past_key_values.layers[0].values.flatten(1)
    told = []
    for key in cache.store.keys():  # noqa: SIM118
        kv = cache.store.get(key)
        assert kv is not None
        values = kv.values[0].transpose(0, 1).flatten(1)
        found = torch.cdist(values, table).argmin(1).tolist()
        assert " ".join(map(str, found)) == kv.origin["tokens"]
        told.append(cache.tokenizer.decode(found))
    assert "A secret." in told


def test_the_pages_limits_are_those_of_the_code() -> None:
    for limit in (
        f"{checks.MARKUP_LIMIT:,} characters, {checks.ELEMENT_LIMIT:,} elements, "
        f"{checks.DEPTH_LIMIT} levels",
        f"| an attribute | {checks.ATTRIBUTE_LIMIT:,} characters",
        f"| {WAITING >> 20} MiB |",
    ):
        assert limit in PAGE
