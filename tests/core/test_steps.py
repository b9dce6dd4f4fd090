"""Answers that grow at once: computed together, each as if it were alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor

from promptcache import MemoryStore, Modular, NoReuse, PromptCache, Reply
from promptcache.clock import Clock
from promptcache.model import steps
from promptcache.model.abreast import Abreast
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner
from promptcache.pipeline import Prefilled
from support.library import DOCUMENTS
from support.together import CHATS, TOGETHER
from support.words import byte_tokenizer
from support.zoo import model

ALONE = ["mistral_windowed", "gemma2", "gemma3", "falcon_alibi", "gpt_oss"]
"""Windows, soft caps, ALiBi, attention sinks."""
OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0},
    {"temperature": 1.5, "seed": 3},
    {"temperature": 0, "repetition_penalty": 1.3, "reuse": NoReuse()},
    {"temperature": 0.9, "top_k": 5, "seed": 4},
    {"temperature": 0, "max_new_tokens": 7},
    {"temperature": 2.0, "seed": 5, "stop": ["e"]},
]
"""What each chat is asked with: nothing of it has to be the same for all."""


def engine(family: str = "llama", **options: Any) -> PromptCache:
    options = {"continuous_batching": True, "conversations": False, **options}
    cache = PromptCache(model(family), byte_tokenizer(), **options)
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def ask(cache: PromptCache, number: int, **more: Any) -> Reply:
    options = {"max_new_tokens": 24, **OPTIONS[number], **more}
    return cache.generate_messages(CHATS[number], **options)


def at_once(caches: Sequence[PromptCache], **more: Any) -> list[Reply]:
    """The answer to each chat, all asked at once, of the engines in turn."""
    with ThreadPoolExecutor(len(CHATS)) as threads:
        asked = [
            threads.submit(ask, caches[number % len(caches)], number, **more)
            for number in range(len(CHATS))
        ]
        return [each.result() for each in asked]


def check_same(replies: Sequence[Reply], expected: Sequence[Reply]) -> None:
    for reply, other in zip(replies, expected, strict=True):
        assert reply.token_ids == other.token_ids
        assert (reply.text, reply.finish_reason) == (other.text, other.finish_reason)


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many answers each forward abreast has computed."""
    counted: list[int] = []
    forward_rows = ModelRunner.forward_rows

    def counting(self: ModelRunner, ids: Any, work: Any, arena: Any, **given: Any) -> Tensor:
        if isinstance(arena, Abreast):
            counted.append(len(work))
        return forward_rows(self, ids, work, arena, **given)

    monkeypatch.setattr(ModelRunner, "forward_rows", counting)
    monkeypatch.setattr(steps, "AT_LEAST", 1.0)
    return counted


def prefilled(cache: PromptCache, number: int) -> Prefilled:
    segments = cache._prompts.from_messages(CHATS[number], cache._shelf.recognise)
    return cache._pipeline.run(segments, Modular(), Clock(), room=4)


@pytest.mark.parametrize("family", TOGETHER)
def test_a_token_has_the_logits_abreast_that_it_has_alone(family: str) -> None:
    cache = engine(family)
    runner, attention = cache._runner, cache.traits.attention
    begun = [prefilled(cache, number) for number in range(len(CHATS))]
    arenas = [each.arena for each in begun if isinstance(each.arena, Arena)]
    tokens = [[70 + number, 80 + number] for number in range(len(begun))]
    for length in (2, 1):  # the shorter one over what the longer one left
        ids = [each[:length] for each in tokens]
        work = [
            (number, range(len(each.layout.ids), len(each.layout.ids) + length))
            for number, each in enumerate(begun)
        ]
        together = runner.forward_rows(ids, work, Abreast(arenas), attention=attention)
        for number, positions in work:
            alone = runner.forward(
                torch.tensor([ids[number]]), positions, arenas[number], attention=attention
            )
            assert torch.allclose(together[number], alone[0], atol=1e-4)


@pytest.mark.parametrize("family", TOGETHER)
def test_streams_at_once_share_forwards_and_answer_as_one_after_another(
    family: str, rows: list[int]
) -> None:
    cache = engine(family)
    alone = [ask(cache, number) for number in range(len(CHATS))]
    assert not rows
    check_same(at_once([cache]), alone)
    assert max(rows) > 2


@pytest.mark.parametrize("family", ALONE)
def test_models_that_cannot_share_a_forward_answer_at_once_all_the_same(
    family: str, rows: list[int]
) -> None:
    cache = engine(family)
    alone = [ask(cache, number) for number in range(len(CHATS))]
    check_same(at_once([cache]), alone)
    assert not rows


def test_engines_of_several_tenants_share_the_forwards_of_their_model(rows: list[int]) -> None:
    store = MemoryStore(10**8)
    caches = [engine(store=store, namespace=name) for name in ("one", "other")]
    alone = [ask(caches[0], number) for number in range(len(CHATS))]
    check_same(at_once(caches), alone)
    assert max(rows) > 3


def test_an_error_of_one_answer_is_its_own(rows: list[int]) -> None:
    class FailureError(Exception):
        pass

    def failing(ids: Tensor, scores: Tensor) -> Tensor:
        if ids.shape[1] > length + 5:
            raise FailureError
        return scores

    cache = engine()
    length = len(prefilled(cache, 0).layout.ids)
    alone = [ask(cache, number) for number in range(len(CHATS))]
    with ThreadPoolExecutor(len(CHATS)) as threads:
        failed = threads.submit(ask, cache, 0, logits_processor=[failing])
        others = [threads.submit(ask, cache, number) for number in range(1, len(CHATS))]
        with pytest.raises(FailureError):
            failed.result()
        check_same([each.result() for each in others], alone[1:])
    assert max(rows) > 2


def test_answers_go_on_alone_where_a_shared_forward_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> Tensor:
        raise torch.OutOfMemoryError("no memory for all of them")

    cache = engine()
    alone = [ask(cache, number) for number in range(len(CHATS))]
    at_once([cache])  # whether the model can do it has been tried by then
    monkeypatch.setattr(ModelRunner, "forward_rows", failing)
    check_same(at_once([cache]), alone)


def test_a_reader_who_pauses_holds_nobody_up_and_goes_on_where_he_was(rows: list[int]) -> None:
    cache = engine()
    alone = [ask(cache, number) for number in range(2)]
    with cache.stream_messages(CHATS[0], max_new_tokens=24, temperature=0) as paused:
        first = [next(paused) for _ in range(3)]
        check_same([ask(cache, 1)], alone[1:])
        assert "".join([*first, *paused]) == alone[0].text
    assert not rows


def test_an_engine_that_is_not_asked_to_computes_each_answer_by_itself(rows: list[int]) -> None:
    cache = engine(continuous_batching=False)
    alone = [ask(cache, number) for number in range(len(CHATS))]
    check_same(at_once([cache]), alone)
    assert not rows
