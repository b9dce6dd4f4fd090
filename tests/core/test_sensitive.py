"""Sensitive: tokens ranked once, after the first reply, and computed again from then on."""

from __future__ import annotations

import gc
import logging
from threading import Event
from typing import Any

import pytest
import torch

from promptcache import Modular, PromptCache, Sensitive
from promptcache.clock import Clock
from promptcache.decoys import BEHIND, UNRELATED
from promptcache.errors import OptionError
from promptcache.kv import SENSITIVITY
from promptcache.library import ModuleLibrary
from promptcache.pipeline import Prefilled
from promptcache.reuse import ReusePolicy
from support.reference import plain_logits
from support.words import byte_tokenizer
from support.zoo import FAMILIES, model

DOCUMENTS = [f"Document {word} is about {word * 3}, and no more." for word in "abc"]
QUESTION = [{"role": "user", "content": "Read:\n" + "\n".join(DOCUMENTS) + "\nWell?"}]
REUSED = sum(map(len, DOCUMENTS[1:]))
"""Tokens of the documents that do not stand where they were encoded: one for each byte."""
SHIFT = 64
"""Where the module's context begins, which changes no logits: a decoy has room in front of it."""


def engine(family: str = "llama", **options: Any) -> PromptCache:
    cache = PromptCache(model(family), byte_tokenizer(), conversations=False, **options)
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def prefilled(cache: PromptCache, policy: ReusePolicy) -> Prefilled:
    segments = cache._prompts.from_messages(QUESTION, cache._shelf.recognise)
    return cache._pipeline.run(segments, policy, Clock(), room=1)


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.parametrize("ranked", [False, True])
def test_all_tokens_computed_again_give_the_logits_of_plain_transformers(
    family: str, ranked: bool
) -> None:
    cache = engine(family)
    if ranked:
        cache.generate_messages(QUESTION, max_new_tokens=1, reuse=Sensitive(1.0))
        cache.settle(60)
    got = prefilled(cache, Sensitive(1.0))
    assert bool(got.served.unranked) != ranked
    assert torch.allclose(got.logits[0], plain_logits(cache.model, got.layout.ids), atol=1e-4)


def test_the_first_tokens_stand_in_until_modules_are_ranked_and_the_trace_says_so() -> None:
    cache = engine(reuse=Sensitive(0.2))
    first = cache.generate_messages(QUESTION, max_new_tokens=1)
    unranked = [run.name for run in cache._library.held()][1:]
    said = f"unranked: {', '.join(sorted(unranked))}; FirstK stood in"
    assert any(line.startswith(said) for line in first.trace.warnings)
    cache.settle(60)
    second = cache.generate_messages(QUESTION, max_new_tokens=1)
    assert not any("unranked" in line for line in second.trace.warnings)
    assert second.usage.recomputed == round(0.2 * REUSED)
    assert second.usage.encoded == 0
    cache.store.check_integrity()


@torch.no_grad()
def test_the_tokens_computed_again_are_those_that_a_decoy_changes_most() -> None:
    cache = engine()
    cache.generate_messages(QUESTION, max_new_tokens=1, reuse=Sensitive(0.3))
    cache.settle(60)
    got = prefilled(cache, Sensitive(0.3))
    decoy = cache.token_ids(UNRELATED + BEHIND)
    changes: dict[int, float] = {}
    for piece in got.layout.reusable:
        if piece.exact or piece.run is None:
            continue
        alone, behind = [], []
        for before, out in (([], alone), (decoy, behind)):
            ids = [*piece.run.context.ids, *before, *piece.run.ids]
            start = SHIFT - len(before)
            positions = torch.arange(start, start + len(ids))[None]
            cached = cache.model(torch.tensor([ids]), position_ids=positions).past_key_values
            states = [tensor for layer in cached.layers for tensor in (layer.keys, layer.values)]
            out += [tensor[0, :, -len(piece.run.ids) :] for tensor in states]
        change = sum((a - b).square().sum((0, 2)) for a, b in zip(alone, behind, strict=True))
        changes |= {piece.start + n: float(change[n]) for n in range(len(piece.ids))}
    count = round(0.3 * len(changes))
    most = sorted(changes, key=lambda place: -changes[place])[:count]
    again = {p for p in got.served.missing if p in changes}
    assert len(again & set(most)) >= count - 1  # two may be as sensitive


def test_expected_states_are_ranked_from_the_beginning() -> None:
    cache = engine(context="expected")
    cache.generate_messages(QUESTION, max_new_tokens=1, reuse=Modular())
    cache.refine(progress=False)
    reply = cache.generate_messages(QUESTION, max_new_tokens=1, reuse=Sensitive(0.1))
    assert not any("unranked" in line for line in reply.trace.warnings)
    assert reply.usage.recomputed == round(0.1 * sum(map(len, DOCUMENTS)))


def test_a_ranking_is_a_part_of_what_a_module_takes_in_the_store() -> None:
    cache = engine(reuse=Sensitive(0.1))
    cache.generate_messages(QUESTION, max_new_tokens=1)
    held = {run: cache._library.fetch([run])[run].kv for run in cache._library.held()}
    before = cache.store.nbytes
    cache.settle(60)
    after = {run: cache._library.fetch([run])[run].kv for run in held}
    ranked = [kv for kv in after.values() if SENSITIVITY in kv.side]
    assert len(ranked) == 2
    assert cache.store.nbytes - before <= sum(4 * kv.tokens for kv in ranked)
    for run, kv in held.items():
        assert all(a.equal(b) for a, b in zip(kv.keys, after[run].keys, strict=True))


def test_a_ranking_that_fails_leaves_replies_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = engine(reuse=Sensitive(0.2))

    def fails(*_: object) -> None:
        raise RuntimeError("no")

    monkeypatch.setattr(cache._library, "rank", fails)
    with caplog.at_level(logging.WARNING, logger="promptcache"):
        first = cache.generate_messages(QUESTION, max_new_tokens=4)
        cache.settle(60)
    assert "could not be ranked" in caplog.text
    assert cache.generate_messages(QUESTION, max_new_tokens=4).token_ids == first.token_ids


def test_what_is_said_of_unranked_modules_is_put_together_after_the_first_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[object] = []
    monkeypatch.setattr(Sensitive, "unranked", lambda _, names: asked.append(names) or "said")
    got = prefilled(engine(), Sensitive(0.2))
    assert not asked
    assert "said" in got.account[0].warnings


def test_modules_of_an_engine_that_was_dropped_are_ranked_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end = Event(), Event()
    ranked: list[object] = []

    def slowly(*_: object) -> None:
        ranked.append(None)
        begun.set()
        assert may_end.wait(60)

    monkeypatch.setattr(ModuleLibrary, "rank", slowly)
    cache = engine(reuse=Sensitive(0.2))
    cache.generate_messages(QUESTION, max_new_tokens=1)
    assert begun.wait(60)
    working = cache._pipeline.ranking._working
    assert working is not None
    del cache
    gc.collect()
    may_end.set()
    working.result(60)
    assert len(ranked) == 1


@pytest.mark.parametrize("ratio", [0, 1.5, -1, True, "all"])
def test_a_ratio_is_a_share(ratio: Any) -> None:
    with pytest.raises(OptionError, match="a share of the tokens"):
        Sensitive(ratio)
