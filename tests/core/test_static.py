"""Forwards of fixed size, recorded and replayed, against plain transformers."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM

from promptcache import Exact, Modular, NoReuse, PromptCache
from promptcache.clock import Clock
from promptcache.errors import OptionError
from promptcache.model.arena import Arena
from promptcache.model.graphs import Recorder
from promptcache.model.recordable import record_forwards
from promptcache.model.runner import ModelRunner, Traits, new_arena
from promptcache.model.static import (
    LARGEST,
    QUERIES,
    Inputs,
    StaticArena,
    StaticForwards,
    slots_for,
)
from promptcache.reuse import ReusePolicy
from support.lanes import Later
from support.reference import modular_logits, plain_logits
from support.tape import Tape
from support.words import byte_tokenizer
from support.zoo import FAMILIES, VOCAB, model

TOLERANCE = 1e-4
OWN_ATTENTION = {"gemma2", "gptj", "gpt_oss", "mpt", "bloom"} | {
    family for family in FAMILIES if family.startswith("falcon")
}
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="miami">Miami is hot and loud.</module>
<module name="maui">Maui is an island in the sea.</module></user></schema>
"""
PROMPTS = [
    '<prompt schema="trip"><maui/><miami/>What now?</prompt>',
    '<prompt schema="trip"><miami/>And then?</prompt>',
    '<prompt schema="trip"><maui/><miami/>Which one is it?</prompt>',
]


def recorded(engine: PromptCache, recorder: Recorder | None = None) -> str | None:
    """Let an engine record its forwards; why it does not."""
    return record_forwards(
        engine._runner, engine.traits, engine.window, Tape() if recorder is None else recorder
    )


def engine_of(family: str) -> PromptCache:
    cache = PromptCache(model(family), byte_tokenizer())
    cache.add_schema(SCHEMA)
    return cache


@pytest.fixture(scope="module", params=sorted(set(FAMILIES) - OWN_ATTENTION))
def engine(request: pytest.FixtureRequest) -> PromptCache:
    cache = engine_of(request.param)
    assert recorded(cache) is None
    return cache


def static_of(engine: PromptCache) -> StaticForwards:
    assert engine._runner.static is not None
    return engine._runner.static


@pytest.mark.parametrize("policy", [NoReuse(), Exact(), Modular()])
def test_logits_are_the_references_whether_run_or_replayed(
    engine: PromptCache, policy: ReusePolicy
) -> None:
    for prompt in PROMPTS[:2] * 3:  # run, recorded, replayed
        segments = engine._prompts.from_pml(prompt, {})
        got = engine._pipeline.run(segments, policy, Clock(), room=1)
        assert isinstance(got.arena, StaticArena)
        if isinstance(policy, Modular):
            expected = modular_logits(engine.model, got.layout, got.layout.reusable)
        else:
            expected = plain_logits(engine.model, got.layout.ids)
        assert float((got.logits[0] - expected).abs().max()) <= TOLERANCE
        del got


def test_greedy_decoding_continues_as_plain_transformers_does(engine: PromptCache) -> None:
    options: dict[str, Any] = {"max_new_tokens": 32, "do_sample": False}
    for prompt in PROMPTS[:2]:
        layout = engine._pipeline.layout(engine._prompts.from_pml(prompt, {}))
        whole = engine.model.generate(
            torch.tensor([layout.ids]),
            attention_mask=torch.ones(1, len(layout.ids)),
            use_cache=True,
            **options,
        )
        reply = engine.generate(prompt, reuse=NoReuse(), **options)
        assert list(reply.token_ids) == whole[0, len(layout.ids) :].tolist()
    assert len(static_of(engine).recordings) >= 1


@pytest.mark.parametrize("family", sorted(OWN_ATTENTION))
def test_a_model_with_attention_of_its_own_is_run_as_before(family: str) -> None:
    engine = engine_of(family)
    assert "attention in a way of its own" in (recorded(engine) or "")
    assert engine._runner.static is None


def test_without_a_cuda_device_nothing_is_recorded() -> None:
    assert engine_of("llama")._runner.static is None
    with pytest.raises(OptionError, match="there are no CUDA graphs on the device 'cpu'"):
        PromptCache(model("llama"), byte_tokenizer(), graphs=True)


@pytest.mark.parametrize("family", sorted(set(FAMILIES) - OWN_ATTENTION))
@pytest.mark.parametrize("queries", [1, 16])
def test_a_forward_that_is_recorded_touches_no_tensor_of_the_host(
    family: str, queries: int
) -> None:
    """On the device "meta", whose tensors hold nothing: a value cannot be read there, either."""
    dtype = torch.bfloat16  # experts of a mixture take no other there
    device = torch.device("meta")
    traits = engine_of(family).traits
    with device:
        made = AutoModelForCausalLM.from_config(FAMILIES[family](), dtype=dtype)
    runner = ModelRunner(made.eval())
    pairs = [
        (
            torch.empty(1, shape.kv_heads, 256, shape.key_dim, dtype=dtype, device=device),
            torch.empty(1, shape.kv_heads, 256, shape.value_dim, dtype=dtype, device=device),
        )
        for shape in traits.layers
    ]
    inputs, arena = Inputs(queries, device), StaticArena(pairs)
    with DevicesNoted() as noted:
        arena.aim_at(inputs)
        logits = runner._of_fixed_size(arena, traits.attention, inputs)
    assert logits.shape == (1, VOCAB)
    assert noted.devices == {"meta"}


class DevicesNoted(TorchDispatchMode):
    """Notes the devices of all that operations read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        leaves = tree_leaves((args, kwargs, out))
        self.devices |= {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)}
        return out


@pytest.fixture(scope="module", params=["llama", "mistral_windowed", "gemma3"])
def pair(request: pytest.FixtureRequest) -> tuple[ModelRunner, Traits]:
    engine = engine_of(request.param)
    assert recorded(engine) is None
    return engine._runner, engine.traits


def near(*edges: int) -> st.SearchStrategy[int]:
    return st.sampled_from(edges).flatmap(lambda edge: st.integers(max(edge - 2, 1), edge + 2))


@given(start=near(0, 1, 100, 200), new=near(1, 16, 32, 64, 128, 256), gaps=st.booleans())
@example(start=1, new=254, gaps=False)
@example(start=0, new=255, gaps=False)
@example(start=0, new=256, gaps=False)
@example(start=382, new=1, gaps=False)
@example(start=383, new=1, gaps=True)
@settings(max_examples=25, deadline=None)
def test_any_number_of_tokens_at_any_positions_gives_the_plain_logits(
    pair: tuple[ModelRunner, Traits], start: int, new: int, gaps: bool
) -> None:
    runner, traits = pair
    generator = torch.Generator().manual_seed(start * 1000 + new)
    ids = torch.randint(8, VOCAB, (start + new + 2,), generator=generator).tolist()
    whole = plain(runner, ids)
    arena = new_arena(runner, traits, len(ids))
    assert isinstance(arena, StaticArena)
    again = [*range(0, start, 3)] if gaps else []
    for positions in (
        range(start),
        [*again, *range(start, start + new)],
        [start + new],
        [start + new + 1],
    ):
        if positions:
            got = forward(runner, traits, ids, positions, arena)
            assert float((got - whole[positions[-1]]).abs().max()) <= TOLERANCE


@torch.no_grad()
def plain(runner: ModelRunner, ids: Sequence[int]) -> Tensor:
    logits: Tensor = runner.model(input_ids=torch.tensor([list(ids)])).logits[0]
    return logits


def forward(
    runner: ModelRunner, traits: Traits, ids: Sequence[int], positions: Sequence[int], arena: Arena
) -> Tensor:
    chosen = torch.tensor([[ids[place] for place in positions]])
    return runner.forward(chosen, positions, arena, attention=traits.attention)[0]


def test_replays_are_what_answers_come_from() -> None:
    engine, tape = PromptCache(model("llama"), byte_tokenizer(), conversations=False), Tape()
    engine.add_schema(SCHEMA)
    assert recorded(engine, tape) is None
    engine.generate(PROMPTS[0], max_new_tokens=8, min_new_tokens=8)
    assert (tape.recorded, tape.played) == (1, 1 + 5)  # one token is run, one recorded and checked
    engine.generate(PROMPTS[0], max_new_tokens=8, min_new_tokens=8)
    assert tape.recorded == 2  # and the second prefill of this size


def test_a_result_is_left_as_it_is_by_the_next_replay(pair: tuple[ModelRunner, Traits]) -> None:
    runner, traits = pair
    ids = list(range(10, 40))
    arena = new_arena(runner, traits, len(ids))
    got = [forward(runner, traits, ids, [place], arena) for place in range(len(ids))]
    assert isinstance(arena, StaticArena)
    assert float((torch.stack(got) - plain(runner, ids)).abs().max()) <= TOLERANCE


class Stale:
    """Records results instead of what makes them."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        result = run().clone()
        return lambda: result


class Spoiling(Tape):
    """Replays with other weights, so that wrong states are written to the right slots."""

    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        replay = super().record(run)
        weight = model("llama").model.layers[1].self_attn.k_proj.weight

        @torch.no_grad()
        def spoilt() -> Tensor:
            weight.mul_(-2.0)
            result = replay().clone()
            weight.mul_(-0.5)
            return result

        return spoilt


class Failing:
    def record(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        run()
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(
    ("recorder", "reason"),
    [
        (Stale(), "its results differ"),
        (Spoiling(), "its results differ"),
        (Failing(), "operation not permitted when stream"),
    ],
)
def test_a_recording_that_fails_or_differs_is_given_up_with_one_warning_and_no_wrong_answer(
    recorder: Recorder, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = engine_of("llama")
    options: dict[str, Any] = {"max_new_tokens": 16, "do_sample": False}
    expected = [engine.generate(prompt, **options).token_ids for prompt in PROMPTS]
    assert recorded(engine, recorder) is None
    for _ in range(2):
        got = [engine.generate(prompt, **options).token_ids for prompt in PROMPTS]
        assert got == expected
    assert static_of(engine).recordings.given_up
    assert static_of(engine).lend(10) is None
    assert [reason in line for line in caplog.messages] == [True]


def test_a_model_that_looks_at_its_values_is_not_recorded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine, tape = engine_of("llama"), Tape()
    options: dict[str, Any] = {"max_new_tokens": 8, "do_sample": False}
    expected = engine.generate(PROMPTS[0], **options).token_ids
    layer = engine.model.model.layers[1].mlp
    forward = layer.forward

    def looking(states: Tensor) -> Tensor:
        result: Tensor = forward(states)
        return result * (2.0 if float(states.norm()) < 0 else 1.0)

    monkeypatch.setattr(layer, "forward", looking)
    assert recorded(engine, tape) is None
    assert engine.generate(PROMPTS[0], **options).token_ids == expected
    assert tape.recorded == 0
    assert ["reads values while it runs" in line for line in caplog.messages] == [True]


def test_answers_follow_weights_that_are_written_to_or_replaced() -> None:
    engine = engine_of("qwen2")
    assert recorded(engine) is None
    fresh = PromptCache(engine.model, byte_tokenizer())
    fresh.add_schema(SCHEMA)
    weight = engine.model.model.layers[1].mlp.up_proj.weight
    before = weight.data
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}

    def answers(cache: PromptCache) -> list[Sequence[int]]:
        return [cache.generate(prompt, **options).token_ids for prompt in (*PROMPTS, *PROMPTS)]

    try:
        first = answers(engine)
        weight.data = -before  # elsewhere in memory
        replaced = answers(engine)
        assert replaced == answers(fresh) != first
        with torch.no_grad():
            weight.mul_(3.0)
        assert answers(engine) == answers(fresh) != replaced
    finally:
        weight.data = before


def test_one_prompt_at_a_time_has_the_arena_and_the_others_have_ordinary_ones() -> None:
    engine = engine_of("llama")
    assert recorded(engine) is None
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    alone = [engine.generate(prompt, **options).token_ids for prompt in PROMPTS]
    streams = [engine.stream(prompt, **options) for prompt in PROMPTS]
    assert static_of(engine).lend(10) is None
    for _ in range(12):
        for stream in streams:
            next(stream, None)
    assert [stream.reply.token_ids for stream in streams] == alone
    for stream in streams:
        stream.close()
    del stream, streams
    gc.collect()
    assert isinstance(static_of(engine).lend(10), StaticArena)


def test_what_a_prompt_leaves_in_the_arena_is_wiped() -> None:
    engine = engine_of("llama")
    assert recorded(engine) is None
    arena = static_of(engine).lend(200)
    assert arena is not None
    for layer in arena.layers:
        layer.keys.fill_(torch.nan)
        layer.values.fill_(torch.inf)
    del arena, layer
    gc.collect()
    for prompt in PROMPTS:
        segments = engine._prompts.from_pml(prompt, {})
        got = engine._pipeline.run(segments, NoReuse(), Clock(), room=1)
        assert isinstance(got.arena, StaticArena)
        expected = plain_logits(engine.model, got.layout.ids)
        assert float((got.logits[0] - expected).abs().max()) <= TOLERANCE
        del got


@pytest.mark.parametrize("policy", [Exact(), Modular()])
def test_copies_beside_the_forward_are_there_before_it_is_replayed(policy: ReusePolicy) -> None:
    engine = PromptCache(model("llama"), byte_tokenizer(), conversations=False)
    engine.add_schema(SCHEMA)
    tape = Tape()
    assert recorded(engine, tape) is None
    engine._runner.lane = Later()
    for prompt in PROMPTS[:2] * 3:
        got = engine._pipeline.run(engine._prompts.from_pml(prompt, {}), policy, Clock(), room=1)
        assert isinstance(got.arena, StaticArena)
        if isinstance(policy, Modular):
            expected = modular_logits(engine.model, got.layout, got.layout.reusable)
        else:
            expected = plain_logits(engine.model, got.layout.ids)
        assert float((got.logits[0] - expected).abs().max()) <= TOLERANCE
        del got
    assert tape.played > tape.recorded


def test_hooks_of_the_models_layers_are_still_called() -> None:
    engine = engine_of("llama")
    assert recorded(engine) is None
    calls: list[int] = []
    hook = engine.model.model.layers[0].register_forward_hook(lambda *_: calls.append(1))
    try:
        engine.generate(PROMPTS[0], max_new_tokens=20, min_new_tokens=20)
    finally:
        hook.remove()
    assert len(calls) == 20


@given(tokens=st.integers(1, 20000), longest=st.none() | st.integers(1, 20000))
@settings(max_examples=300)
def test_an_arena_has_room_for_padding_and_no_more_slots_than_the_model_has_positions(
    tokens: int, longest: int | None
) -> None:
    slots = slots_for(tokens, longest)
    most = min(LARGEST, LARGEST if longest is None else longest)
    if slots is None:
        assert tokens >= most - 15
    else:
        assert tokens < slots <= most
        assert slots <= max(256, 2 * tokens)
        assert slots % 16 == 0


def test_more_tokens_than_fixed_sizes_hold_are_computed_as_usual() -> None:
    engine = engine_of("llama")
    assert recorded(engine) is None
    ids = torch.randint(8, VOCAB, (QUERIES[-1] + 9,), generator=torch.Generator().manual_seed(1))
    arena = static_of(engine).lend(len(ids) + 4)
    assert arena is not None
    whole = plain(engine._runner, ids.tolist())
    for positions in (range(len(ids) - 2), [len(ids) - 2], [len(ids) - 1]):
        got = forward(engine._runner, engine.traits, ids.tolist(), positions, arena)
        assert float((got - whole[positions[-1]]).abs().max()) <= TOLERANCE
