"""States that are put into an arena beside the forward: when they come, and who waits for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcache import Exact, HostStore, MemoryStore, Modular, PromptCache
from promptcache.clock import Clock
from promptcache.model.arena import Arena
from promptcache.model.assembly import assemble_beside
from promptcache.reuse import ReusePolicy
from support.arenas import HALVES, PAIRS, Poisoned, shapes, states
from support.lanes import Later
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer
from support.zoo import model

CPU = torch.device("cpu")
TOLERANCE = 1e-4
FAMILIES = [
    "llama", "llama_yarn", "qwen2", "gemma2", "gemma3", "mistral_windowed", "falcon_alibi", "mpt",
    "cohere", "smollm3", "gptj",
]  # fmt: skip
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="plan">Plan a trip of <param name="days" len="8"/> for two people.</module>
<union><module name="miami">Miami is hot and loud.</module>
<module name="maui">Maui is an island in the sea.</module></union>
<module name="note">Mind the rain.</module></user></schema>
"""
PROMPTS = [
    '<prompt schema="trip"><maui/><note/>What now?</prompt>',
    '<prompt schema="trip"><note/><plan days="3 days"/><miami/>And then?</prompt>',
    '<prompt schema="trip"><miami/><plan days="12"/>Say more.</prompt>',
]


def late_engine(family: str, **options: Any) -> tuple[PromptCache, Later]:
    """An engine whose copies are made as late as may be, in memory that tells early readers."""
    cache = PromptCache(model(family), byte_tokenizer(), **options)
    lane = Later()
    cache._runner.lane = lane
    cache._runner.spare = Poisoned()
    cache.add_schema(SCHEMA)
    return cache, lane


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", [Modular(), Exact()])
def test_logits_are_the_references_however_late_copies_are_made(
    family: str, policy: ReusePolicy
) -> None:
    engine, lane = late_engine(family)
    for prompt in PROMPTS:
        segments = engine._prompts.from_pml(prompt, {})
        got = engine._pipeline.run(segments, policy, Clock(), room=1)
        if isinstance(policy, Modular):
            expected = modular_logits(engine.model, got.layout, got.layout.reusable)
        else:
            expected = plain_logits(engine.model, got.layout.ids)
        assert float((got.logits[0] - expected).abs().max()) <= TOLERANCE
    assert lane.done == lane.asked > 0


def test_each_layer_waits_for_its_own_states_and_for_no_later_ones() -> None:
    kinds = shapes(torch.float32)
    arena = Arena(kinds, capacity=12)
    lane = Later()
    rotations = [HALVES, PAIRS, None, HALVES]
    moves = [(0, states(kinds, 4, 0)), (6, states(kinds, 5, 2))]
    assemble_beside(arena, moves, rotations, None, lane)
    assert lane.followed == [0]  # what was asked before comes first, and nothing comes yet
    assert lane.done == 0
    arena.aim([11], 12)
    tables = lane.asked - len(kinds)
    for index, (layer, kind) in enumerate(zip(arena.layers, kinds, strict=True)):
        new = torch.ones(1, kind.kv_heads, 1, kind.key_dim)
        keys, _ = layer.update(new, torch.ones(1, kind.kv_heads, 1, kind.value_dim))
        assert lane.done == tables + index + 1
        assert keys[0, :, :4].equal(moves[0][1].keys[index])
        assert (keys[0, :, 11] == 1).all()
    arena.aim([11], 12)
    arena.layers[0].update(torch.zeros(1, 2, 1, 8), torch.zeros(1, 2, 1, 8))
    assert (arena.layers[0].keys[0, :, 11] == 0).all()  # states come once, not at every forward


def test_a_forward_that_fails_leaves_no_copy_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, lane = late_engine("llama")

    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("no luck")

    monkeypatch.setattr(engine._runner, "_run", failing)
    before = lane.asked
    with pytest.raises(RuntimeError, match="no luck"):
        engine.generate(PROMPTS[0], max_new_tokens=1)
    assert lane.done == lane.asked > before


def test_an_earlier_turn_is_put_back_beside_the_forward() -> None:
    engine, lane = late_engine("llama")
    plain = PromptCache(model("llama"), byte_tokenizer())
    options: dict[str, Any] = {"max_new_tokens": 12, "do_sample": False}
    messages = [{"role": "user", "content": "Where is Maui?"}]
    said = [cache.generate_messages(messages, **options) for cache in (engine, plain)]
    assert said[0].token_ids == said[1].token_ids
    messages += [
        {"role": "assistant", "content": said[0].text},
        {"role": "user", "content": "And Miami?"},
    ]
    before = lane.asked
    replies = [cache.generate_messages(messages, **options) for cache in (engine, plain)]
    assert replies[0].token_ids == replies[1].token_ids
    assert replies[0].usage.reused_tokens == replies[1].usage.reused_tokens > 0
    assert lane.asked > before


@given(turns=st.lists(st.integers(0, 2), max_size=40), tight=st.booleans())
@settings(max_examples=15, deadline=None)
def test_requests_that_interleave_answer_alike_from_host_and_from_device_memory(
    turns: list[int], tight: bool
) -> None:
    budget = 40_000 if tight else 1 << 30  # a tight one keeps two modules at a time
    options: dict[str, Any] = {"max_new_tokens": 10, "do_sample": False}
    plain = PromptCache(model("llama"), byte_tokenizer(), store=MemoryStore(1 << 30))
    plain.add_schema(SCHEMA)
    expected = [plain.generate(prompt, **options).token_ids for prompt in PROMPTS]
    engine, _ = late_engine("llama", store=HostStore(budget))
    streams = [engine.stream(prompt, **options) for prompt in PROMPTS]
    for turn in turns:
        next(streams[turn], None)
    for stream in streams:
        for _ in stream:
            pass
    assert [stream.reply.token_ids for stream in streams] == expected
