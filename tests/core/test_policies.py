"""The moments of a reuse policy, for policies of the user's own too."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from promptcache import FirstK, PromptCache, ReusePolicy
from promptcache.clock import Clock
from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun
from promptcache.reuse import Check
from support.reference import plain_logits
from support.words import byte_tokenizer
from support.zoo import model

DOCUMENTS = [f"Document {i} is about {word}, and no more." for i, word in enumerate("abc")]
QUESTION = [{"role": "user", "content": "\n".join(DOCUMENTS) + "\nWell?"}]


@dataclass(frozen=True, slots=True)
class LoudestValues(ReusePolicy):
    """Computes the share of each module's tokens again whose values are largest."""

    side: ClassVar[tuple[str, ...]] = ("loudness",)
    share: float

    def rank(self, kv: KV) -> Mapping[str, Tensor]:
        return {"loudness": torch.stack([v.norm(dim=(0, 2)) for v in kv.values]).sum(0)}

    def recomputed(
        self, layout: Layout, records: Mapping[ModuleRun, KV], check: Check
    ) -> Collection[int]:
        chosen: set[int] = set()
        for piece in layout.reusable:
            assert piece.run is not None
            loudness = records[piece.run].side["loudness"]
            count = round(self.share * len(loudness))
            order = loudness.argsort(descending=True)[:count]
            inside = order[(order >= piece.offset) & (order < piece.offset + len(piece.ids))]
            chosen.update(piece.start + int(token) - piece.offset for token in inside)
        return chosen


def test_what_a_policy_ranks_is_kept_with_the_module_and_there_when_it_is_reused() -> None:
    policy = LoudestValues(0.5)
    cache = PromptCache(model("llama"), byte_tokenizer(), reuse=policy, conversations=False)
    cache.cache_documents(DOCUMENTS, progress=False)
    for _ in range(2):
        reply = cache.generate_messages(QUESTION, max_new_tokens=1)
    assert 0.4 < reply.usage.recomputed / (reply.usage.recomputed + reply.usage.reused_tokens) < 0.6
    assert any(0 < span.recomputed < span.tokens for span in reply.trace)


def test_recomputing_every_token_in_place_gives_the_logits_of_plain_transformers() -> None:
    for family in ("llama", "mistral_windowed", "gemma2", "bloom", "gptj"):
        cache = PromptCache(model(family), byte_tokenizer())
        cache.cache_documents(DOCUMENTS, progress=False)
        segments = cache._prompts.from_messages(QUESTION, cache._shelf.recognise)
        got = cache._pipeline.run(segments, LoudestValues(1.0), Clock(), room=1)
        expected = plain_logits(cache.model, got.layout.ids)
        assert torch.allclose(got.logits[0], expected, atol=1e-4)
        assert got.usage.reused_tokens == 0


def test_recomputed_tokens_do_not_see_what_comes_after_them() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.cache_documents(DOCUMENTS, progress=False)
    first_keys = []
    for question in ("Well?", "What else is there to say, and to whom?"):
        ask = [{"role": "user", "content": "\n".join(DOCUMENTS) + "\n" + question}]
        segments = cache._prompts.from_messages(ask, cache._shelf.recognise)
        got = cache._pipeline.run(segments, LoudestValues(0.3), Clock(), room=1)
        stop = got.layout.pieces[-3].start
        first_keys.append(got.arena.read(0, stop).keys[-1])
    assert torch.allclose(*first_keys, atol=1e-5)


def test_a_policy_finds_its_ranking_whatever_policy_encoded_the_module() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema('<schema name="s"><user>U<collection name="c"/></user></schema>')
    cache.cache_documents(DOCUMENTS, schema="s", progress=False)
    cache.generate_messages(QUESTION, max_new_tokens=1)
    first = cache.generate_messages(QUESTION, max_new_tokens=1, reuse=LoudestValues(0.5))
    assert first.usage.recomputed > 0
    assert first.usage.encoded == 0
    cache.store.check_integrity()


def test_the_first_tokens_of_moved_modules_are_computed_again() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), conversations=False)
    cache.cache_documents(DOCUMENTS, progress=False)
    cache.generate_messages(QUESTION, max_new_tokens=1)
    reply = cache.generate_messages(QUESTION, max_new_tokens=1, reuse=FirstK(5))
    modules = [span for span in reply.trace if span.module and span.module != "preamble"]
    assert [span.recomputed for span in modules] == [0, 5, 5]  # the first stands where it was
    assert reply.usage.recomputed == 10
    more = cache.generate_messages(QUESTION, max_new_tokens=1, reuse=FirstK(1000))
    assert [span.recomputed for span in more.trace if span.module in ("b", "c")] == []
    assert more.usage.approximate == 0


def test_the_first_tokens_of_a_module_with_a_hole_are_counted_from_its_beginning() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), conversations=False)
    cache.add_schema(
        '<schema name="s">Always.<module name="a">A note.</module><module name="m">In <param '
        'name="where" length="12"/> there are many trees, and few roads.</module></schema>'
    )
    prompt = '<prompt schema="s"><m where="Rome"/>And what else?<a/></prompt>'
    cache.generate(prompt, max_new_tokens=1)
    spans = cache.generate(prompt, max_new_tokens=1, reuse=FirstK(20)).trace
    by_text = {span.text: span for span in spans}
    behind = by_text[" there are many trees, and few roads."]
    before = next(span for span in spans if span.module == "s.m")
    assert behind.recomputed == 20 - before.tokens - 12
    assert by_text["A note."].recomputed == len("A note.")


def test_first_k_of_all_tokens_is_a_full_prefill_in_every_family() -> None:
    for family in ("llama", "mistral_windowed", "gemma2", "bloom", "gptj"):
        cache = PromptCache(model(family), byte_tokenizer())
        cache.cache_documents(DOCUMENTS, progress=False)
        segments = cache._prompts.from_messages(QUESTION, cache._shelf.recognise)
        got = cache._pipeline.run(segments, FirstK(1000), Clock(), room=1)
        expected = plain_logits(cache.model, got.layout.ids)
        assert torch.allclose(got.logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("k", [0, -1, True, 2.5, "8"])
def test_a_number_of_first_tokens_that_is_none_is_refused(k: object) -> None:
    with pytest.raises(OptionError, match="FirstK takes a number of tokens, 1 or more"):
        FirstK(k)  # type: ignore[arg-type]
