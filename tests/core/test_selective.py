"""Computing again what deviates most: which tokens these are, what comes of it, what it takes."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Mapping
from itertools import chain
from threading import Thread
from typing import Any

import pytest
import torch
from torch import Tensor

from promptcache import Exact, FirstK, Modular, PromptCache, ReusePolicy, Selective, Stage
from promptcache.clock import Clock
from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun
from promptcache.model.arena import Arena
from promptcache.model.attending import running
from promptcache.model.check import CheckPass, FirstLayers
from promptcache.model.lending import PARTS
from promptcache.model.shared import SharedRow
from promptcache.model.together import longest_row
from promptcache.pipeline import Prefilled
from support.library import DOCUMENTS, messages
from support.reference import modular_logits, module_states, plain_logits, plain_states
from support.words import byte_tokenizer
from support.zoo import FAMILIES, model

TOLERANCE = 1e-4
LAYERS = 3
"""Of the models of every family."""
CHAT = messages(2, 0, 3)


def engine(family: str = "llama", **options: Any) -> PromptCache:
    cache = PromptCache(model(family), byte_tokenizer(), **options)
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


@pytest.fixture(scope="module", params=list(FAMILIES))
def each(request: pytest.FixtureRequest) -> PromptCache:
    """An engine of each family."""
    return engine(request.param, conversations=False)


def prefilled(
    cache: PromptCache, policy: ReusePolicy, chat: list[dict[str, Any]] = CHAT
) -> Prefilled:
    segments = cache._prompts.from_messages(chat, cache._shelf.recognise)
    return cache._pipeline.run(segments, policy, Clock(), room=2)


def difference(got: Tensor, expected: Tensor) -> float:
    return float((got - expected).abs().max())


def moved_places(layout: Layout) -> list[int]:
    """The positions of tokens that could be reused and are not exact."""
    return [
        place
        for piece in layout.reusable
        if not piece.exact
        for place in range(piece.start, piece.stop)
    ]


def chosen(got: Prefilled) -> set[int]:
    """The reused tokens that were computed again."""
    return set(moved_places(got.layout)).intersection(got.served.missing)


def asking(cache: PromptCache) -> tuple[CheckPass, Layout, Mapping[ModuleRun, KV]]:
    """What may be asked of the model about `CHAT`, its layout, and the states that it reuses."""
    segments = cache._prompts.from_messages(CHAT, cache._shelf.recognise)
    laid = cache._pipeline.lay(segments, Modular(), room=1)
    [plan] = cache._pipeline.plans([laid], Modular(), Clock())
    check = CheckPass(cache._runner, cache.traits, laid.layout, plan.states)
    return check, laid.layout, plan.states


class Rounded:
    """What may be asked of a model whose states are rounded in another way each time."""

    def __init__(self, check: CheckPass, rounding: float) -> None:
        self._check = check
        self._rounding = rounding

    def fresh(self, layer: int) -> tuple[Tensor, Tensor]:
        keys, values = self._check.fresh(layer)
        return keys, values * (1 + self._rounding * torch.randn_like(values))


# What comes of it.


@pytest.mark.parametrize("policy", [Selective(1.0), FirstK(1000)])
def test_with_every_token_computed_again_the_logits_are_those_of_plain_transformers(
    each: PromptCache, policy: ReusePolicy
) -> None:
    got = prefilled(each, policy)
    assert difference(got.logits[0], plain_logits(each.model, got.layout.ids)) <= TOLERANCE
    assert chosen(got) == set(moved_places(got.layout)) != set()
    assert got.usage.approximate == got.usage.checked == 0


@pytest.mark.parametrize("layer", range(LAYERS))
def test_the_logits_are_the_references_with_the_same_tokens_computed_again(
    each: PromptCache, layer: int
) -> None:
    got = prefilled(each, Selective(0.2, layer))
    again = chosen(got)
    assert len(again) == got.usage.recomputed == round(0.2 * len(moved_places(got.layout)))
    reused = got.layout.reusable
    expected = modular_logits(each.model, got.layout, reused, again)
    assert difference(got.logits[0], expected) <= TOLERANCE
    if longest_row(each.model) is None:  # no window hides what was computed from the last token
        without = modular_logits(each.model, got.layout, reused)
        assert difference(got.logits[0], without) > TOLERANCE


@pytest.mark.parametrize("layer", range(1, LAYERS))
def test_the_tokens_are_those_whose_values_deviate_most_from_plain_transformers_own(
    each: PromptCache, layer: int
) -> None:
    got = prefilled(each, Selective(0.25, layer))
    _, full = plain_states(each.model, got.layout.ids)[layer]
    deviations: dict[int, float] = {}
    for piece in got.layout.reusable:
        if not piece.exact:
            _, cached = module_states(each.model, piece)[layer]
            off = (full[:, piece.start : piece.stop] - cached).square().sum((0, 2))
            deviations.update(zip(range(piece.start, piece.stop), off.tolist(), strict=True))
    again = chosen(got)
    least = min(deviations[place] for place in again)
    most = max(off for place, off in deviations.items() if place not in again)
    assert least >= most - 1e-5 * max(deviations.values())


def test_tokens_that_deviate_as_much_are_taken_from_the_beginning(each: PromptCache) -> None:
    got = prefilled(each, Selective(0.1, 0))  # values of the first layer depend on nothing else
    places = moved_places(got.layout)
    assert sorted(chosen(got)) == places[: round(0.1 * len(places))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_no_deviation(dtype: torch.dtype) -> None:
    cache = PromptCache(model("llama", dtype), byte_tokenizer())
    cache.cache_documents(DOCUMENTS, progress=False)
    check, layout, states = asking(cache)
    noise = torch.finfo(dtype).eps
    again = Selective(0.3, 0).recomputed(layout, states, Rounded(check, noise))
    assert list(again) == moved_places(layout)[: len(again)]


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_the_states_of_computed_tokens_do_not_change_when_later_tokens_do(
    each: PromptCache, ratio: float
) -> None:
    ends = [messages(2, 0, 3), messages(2, 0, 3, question="And what else? " * 3)]
    if ratio == 1.0:
        ends.append(messages(2, 0, 1, question="So?"))
    first, *others = [prefilled(each, Selective(ratio), chat) for chat in ends]
    for other in others:
        parts = zip(first.layout.ids, other.layout.ids, strict=False)
        stop = next(place for place, (mine, theirs) in enumerate(parts) if mine != theirs)
        assert len([place for place in chosen(first) if place < stop]) > 5
        mine, theirs = (got.arena.read_at(range(stop)) for got in (first, other))
        for a, b in zip((*mine.keys, *mine.values), (*theirs.keys, *theirs.values), strict=True):
            assert torch.allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "cohere", "gpt_neox", "mistral_windowed", "bloom"])
def test_prompts_at_once_have_the_answers_that_they_have_one_by_one(family: str) -> None:
    policy = Selective(0.3)
    one, other = engine(family, reuse=policy), engine(family, reuse=policy)
    chats = [CHAT, messages(1, 0), messages(0, 1, 2, question="Who?"), messages(4)]
    replies = other.batch_messages(chats, max_new_tokens=8, temperature=0)
    for reply, chat in zip(replies, chats, strict=True):
        alone = one.generate_messages(chat, max_new_tokens=8, temperature=0)
        assert reply.token_ids == alone.token_ids
        assert reply.usage.recomputed == alone.usage.recomputed


@pytest.mark.parametrize("family", ["llama", "cohere", "gpt_neox", "smollm3"])
def test_a_row_of_a_batch_holds_what_it_would_be_lent_in_many_parts(family: str) -> None:
    cache = engine(family)
    prefilled(cache, Modular())
    policy = Selective(0.3)
    chats = [CHAT, messages(1, 0, 4), CHAT]
    laid = [
        cache._pipeline.lay(
            cache._prompts.from_messages(chat, cache._shelf.recognise), policy, room=2
        )
        for chat in chats
    ]
    rows = cache._answering._batching.prefill(laid, Clock())
    for row, chat in zip(rows, chats, strict=True):
        alone = prefilled(cache, policy, chat)
        assert torch.allclose(row.logits, alone.logits, atol=TOLERANCE)
        assert chosen(row) == chosen(alone)
        assert isinstance(row.arena, SharedRow)
        held = row.arena.arena.rows[row.arena.row]
        moved = [piece for piece in row.layout.reusable if not piece.exact]
        assert len(held.own) > len(row.served.missing)
        assert len(held.loans) <= 1 + PARTS * len(moved)
        lent = [range(loan.start, loan.start + loan.kv.tokens) for loan in held.loans]
        assert sorted([*held.own, *chain(*lent)]) == [*range(len(row.layout.ids))]


def test_a_turn_goes_on_from_what_the_one_before_has_computed() -> None:
    cache = engine(reuse=Selective(0.3))
    first = prefilled(cache, Selective(0.3))
    cache.generate_messages(CHAT, max_new_tokens=1)
    more = [*CHAT, {"role": "assistant", "content": "no"}, {"role": "user", "content": "Why?"}]
    second = prefilled(cache, Selective(0.3), more)
    assert chosen(second) == chosen(first) != set()
    assert second.usage.recomputed == 0  # the earlier turn serves them
    reused, again = second.layout.reusable, chosen(second)
    expected = modular_logits(cache.model, second.layout, reused, again)
    assert difference(second.logits[0], expected) <= TOLERANCE


# What it takes.


@pytest.mark.parametrize("layer", range(LAYERS))
def test_a_reply_says_how_much_the_pass_ran_over_and_how_long_it_took(layer: int) -> None:
    cache = engine(conversations=False)
    reply = cache.generate_messages(CHAT, max_new_tokens=1, reuse=Selective(0.2, layer))
    layout = prefilled(cache, Modular()).layout
    run_over = max(piece.stop for piece in layout.reusable) - layout.exact_prefix
    assert layout.exact_prefix > 0
    assert reply.usage.checked == pytest.approx(run_over * (layer + 1) / LAYERS)
    assert reply.timings[Stage.CHECK] > 0
    assert list(reply.timings) == list(Stage)


@pytest.mark.parametrize("policy", [Selective(0.2), Exact(), Modular(), FirstK(4)])
def test_nothing_is_checked_where_nothing_approximate_is_reused(
    policy: ReusePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = engine()
    chat = messages(1) if isinstance(policy, Selective) else CHAT
    monkeypatch.setattr(CheckPass, "fresh", None)
    assert prefilled(cache, policy, chat).usage.checked == 0


def test_the_fresh_states_are_those_of_plain_transformers(each: PromptCache) -> None:
    check, layout, _ = asking(each)
    fresh = [check.fresh(layer) for layer in reversed(range(LAYERS))][::-1]  # in the same memory
    last = max(piece.stop for piece in layout.reusable)
    for got, expected in zip(fresh, plain_states(each.model, layout.ids), strict=True):
        for states, whole in zip(got, expected, strict=True):
            assert torch.allclose(states, whole[:, :last], atol=TOLERANCE)
    assert check.work == pytest.approx((last - layout.exact_prefix) * (1 + 2 + 3) / 3)


# What it leaves behind.


def test_an_interrupted_model_is_left_as_it_was(each: PromptCache) -> None:
    config, attention = each.model.config.to_dict(), each.model.config._attn_implementation
    prefilled(each, Modular())
    before = plain_logits(each.model, list(range(9, 40)))
    prefilled(each, Selective(0.2))
    assert each.model.config.to_dict() == config
    assert each.model.config._attn_implementation == attention
    assert running() is None
    assert torch.is_grad_enabled()
    assert torch.equal(plain_logits(each.model, list(range(9, 40))), before)
    taken: list[bool] = []

    def take() -> None:
        taken.append(each._runner.lock.acquire(blocking=False))
        if taken[0]:
            each._runner.lock.release()

    other = Thread(target=take)
    other.start()
    other.join()
    assert taken == [True]


def test_the_memory_of_the_pass_serves_the_prefill(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine()
    made: list[weakref.ref[Arena]] = []
    begin = FirstLayers.__init__

    def watched(self: FirstLayers, *args: Any, **kwargs: Any) -> None:
        assert not any(earlier() for earlier in made)
        made.append(weakref.ref(self))
        begin(self, *args, **kwargs)

    monkeypatch.setattr(FirstLayers, "__init__", watched)
    gc.disable()
    try:
        for _ in range(2):
            prefilled(cache, Selective(0.2))
            assert made.pop()() is None
        assert cache._runner.spare.nbytes > 0
    finally:
        gc.enable()


def test_an_error_in_the_pass_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine()
    prefilled(cache, Modular())
    layer = model("llama").model.layers[0]

    def broken(*_: Any, **__: Any) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(layer, "forward", broken)
    with pytest.raises(ValueError, match="broken"):
        prefilled(cache, Selective(0.2))


# What may be asked for.


@pytest.mark.parametrize("ratio", [0, 0.0, -0.1, 1.01, True, "0.2", None, float("nan")])
def test_a_ratio_that_is_no_share_is_refused(ratio: Any) -> None:
    with pytest.raises(OptionError, match="Selective takes a share of the tokens, above 0"):
        Selective(ratio)


@pytest.mark.parametrize("layer", [-1, True, 1.0, "1", None])
def test_a_check_layer_that_is_no_number_of_one_is_refused(layer: Any) -> None:
    with pytest.raises(OptionError, match=r"check_layer=.*: Selective takes the number of a layer"):
        Selective(0.2, layer)


def test_a_check_layer_that_the_model_has_not_is_refused() -> None:
    message = "check_layer=3: the model's layers are 0 to 2"
    with pytest.raises(OptionError, match=message):
        engine(reuse=Selective(0.2, 3))
    with pytest.raises(OptionError, match=message):
        engine().generate_messages(CHAT, reuse=Selective(0.2, 3))
