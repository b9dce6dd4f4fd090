"""Every family against plain transformers: logits, moves, decoding."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from promptcache import Exact, Modular, NoReuse, PromptCache
from promptcache.clock import Clock
from promptcache.errors import OptionError
from promptcache.pipeline import Prefilled
from promptcache.reuse import ReusePolicy
from promptcache.segments import Segment
from promptcache.trace import Provenance
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer
from support.zoo import FAMILIES, VOCAB, model

TOLERANCE = 1e-4
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="plan">Plan a trip of <param name="days" len="8"/> for two people.
<module name="note">Mind the rain.</module> Be brief.</module>
<union><module name="miami">Miami is hot and loud.</module>
<module name="maui">Maui is an island in the sea.</module></union>
<collection name="context"/></user></schema>
"""
PROMPTS = [
    '<prompt schema="trip"><plan days="3 days"/><miami/>What now?</prompt>',
    '<prompt schema="trip"><maui/><plan days="12"><note/></plan>And then?</prompt>',
    '<prompt schema="trip"><maui/>Say <plan><note/></plan></prompt>',
]


@pytest.fixture(scope="module", params=list(FAMILIES))
def engine(request: pytest.FixtureRequest) -> PromptCache:
    cache = PromptCache(model(request.param), byte_tokenizer())
    cache.add_schema(SCHEMA)
    return cache


def prefilled(engine: PromptCache, prompt: str, policy: ReusePolicy) -> Prefilled:
    segments: tuple[Segment, ...] = engine._prompts.from_pml(prompt, {})
    return engine._pipeline.run(segments, policy, Clock(), room=1)


def difference(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).abs().max())


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_reuse_gives_the_logits_of_plain_transformers(engine: PromptCache, prompt: str) -> None:
    got = prefilled(engine, prompt, NoReuse())
    assert difference(got.logits[0], plain_logits(engine.model, got.layout.ids)) <= TOLERANCE


@pytest.mark.parametrize("prompt", PROMPTS)
def test_exact_gives_the_logits_of_plain_transformers_and_reuses(
    engine: PromptCache, prompt: str
) -> None:
    got = prefilled(engine, prompt, Exact())
    assert difference(got.logits[0], plain_logits(engine.model, got.layout.ids)) <= TOLERANCE
    assert got.usage.exact > 0


@pytest.mark.parametrize("prompt", PROMPTS)
def test_modular_gives_the_logits_of_the_block_masked_reference(
    engine: PromptCache, prompt: str
) -> None:
    got = prefilled(engine, prompt, Modular())
    expected = modular_logits(engine.model, got.layout, got.layout.reusable)
    assert difference(got.logits[0], expected) <= TOLERANCE
    assert got.usage.approximate > 0


def test_a_single_module_after_its_own_context_is_exact(engine: PromptCache) -> None:
    got = prefilled(engine, '<prompt schema="trip"><maui/>So?</prompt>', Modular())
    assert difference(got.logits[0], plain_logits(engine.model, got.layout.ids)) <= TOLERANCE
    assert got.usage.approximate == 0
    assert got.usage.exact == got.usage.reused_tokens > 0


def plain_answer(engine: PromptCache, prompt: str, **options: Any) -> list[int]:
    ids = prefilled(engine, prompt, NoReuse()).layout.ids
    whole = engine.model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), use_cache=True, **options
    )
    return whole[0, len(ids) :].tolist()


@pytest.mark.parametrize("penalty", [1.0, 1.3])
def test_greedy_decoding_continues_as_plain_transformers_does(
    engine: PromptCache, penalty: float
) -> None:
    options = {"max_new_tokens": 64, "repetition_penalty": penalty, "do_sample": False}
    reply = engine.generate(PROMPTS[0], reuse=NoReuse(), **options)
    assert list(reply.token_ids) == plain_answer(engine, PROMPTS[0], **options)


def test_greedy_decoding_continues_from_reused_pieces_as_plain_transformers_does(
    engine: PromptCache,
) -> None:
    options = {"max_new_tokens": 64, "repetition_penalty": 1.0, "do_sample": False}
    reply = engine.generate(PROMPTS[1], reuse=Exact(), **options)
    reused = {span.module for span in reply.trace if span.provenance is Provenance.EXACT}
    assert reused == {"preamble", "trip.maui"}
    assert list(reply.token_ids) == plain_answer(engine, PROMPTS[1], **options)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "temperature": 1e-40},
        {"do_sample": True, "suppress_tokens": list(range(VOCAB))},
        {"do_sample": False, "suppress_tokens": list(range(VOCAB))},
    ],
)
def test_options_that_leave_no_token_to_choose_from_are_refused(options: dict[str, Any]) -> None:
    engine = PromptCache(model("llama"), byte_tokenizer())
    with pytest.raises(OptionError, match="no token is left to choose from"):
        engine.generate_text("Who?", max_new_tokens=4, **options)


def test_the_models_config_is_left_as_it_was(engine: PromptCache) -> None:
    before = engine.model.config.to_dict()
    attention = engine.model.config._attn_implementation
    prefilled(engine, PROMPTS[1], Modular())
    assert engine.model.config.to_dict() == before
    assert engine.model.config._attn_implementation == attention


@pytest.mark.parametrize("family", ["llama", "falcon_7b_style", "falcon_alibi", "mpt", "gemma3"])
@pytest.mark.parametrize("policy", [Modular(), NoReuse()])
def test_in_bfloat16_the_first_token_is_the_references_unless_two_are_as_likely(
    family: str, policy: ReusePolicy
) -> None:
    engine = PromptCache(model(family, torch.bfloat16), byte_tokenizer())
    engine.add_schema(SCHEMA)
    compared = 0
    for prompt in PROMPTS:
        got = prefilled(engine, prompt, policy)
        reused = got.layout.reusable if isinstance(policy, Modular) else ()
        expected = modular_logits(engine.model, got.layout, reused).float()
        best, second = expected.topk(2).values
        if best - second > 0.05:
            assert int(got.logits[0].argmax()) == int(expected.argmax())
            compared += 1
    assert compared
