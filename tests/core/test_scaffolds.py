"""Modules that are encoded together: the logits of the reference, provenance, keys and refuges."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor

from promptcache import Exact, FirstK, Modular, NoReuse, PromptCache
from promptcache.clock import Clock
from promptcache.laying import TOO_LONG
from promptcache.pipeline import Prefilled
from promptcache.reuse import ReusePolicy
from promptcache.text.fit import TRIMMED
from promptcache.trace import Provenance, Span
from support.reference import block_masked_logits, modular_logits, plain_logits
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import FAMILIES, model

TOLERANCE = 1e-4
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="ann">Ann is Bo's elder sister.</module>
<module name="bo">Bo has <param name="what" len="6" default="a cat"/>, and they sail.
<module name="sea">The sea is calm.</module></module>
<union><module name="may">It is May.</module><module name="june">It is June, and hot.</module>
</union><collection name="notes"/></user>
<scaffold name="crew" modules="ann bo may"/><scaffold name="pair" modules="may ann"/></schema>
"""
SERVED = [
    "<ann/><bo/><may/>What now?",
    "<ann/><bo what='1 dog'><sea/></bo><may/>What now?",
    "Hear: <may/><ann/><bo/>And then?",
]


@pytest.fixture(scope="module", params=list(FAMILIES))
def engine(request: pytest.FixtureRequest) -> PromptCache:
    cache = PromptCache(model(request.param), byte_tokenizer())
    cache.add_schema(SCHEMA)
    return cache


def llama(schema: str = SCHEMA, template: str = TEMPLATE) -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer(template))
    cache.add_schema(schema)
    return cache


def prefilled(engine: PromptCache, imports: str, policy: ReusePolicy | None = None) -> Prefilled:
    prompt = f'<prompt schema="trip">{imports}</prompt>'
    segments = engine._prompts.from_pml(prompt, {"k": "A note."})
    return engine._pipeline.run(segments, policy or Modular(), Clock(), room=1)


def difference(got: Prefilled, expected: Tensor) -> float:
    return float((got.logits[0] - expected).abs().max())


def spans(got: Prefilled) -> dict[str | None, Span]:
    return {span.module: span for span in got.account[0]}


def contexts(got: Prefilled) -> dict[str | None, str | None]:
    return {
        str(span.module).removeprefix("trip."): span.context
        for span in got.account[0]
        if span.module
    }


@pytest.mark.parametrize("imports", SERVED)
def test_a_scaffolds_modules_attend_to_each_other_as_in_the_reference(
    engine: PromptCache, imports: str
) -> None:
    got = prefilled(engine, imports)
    assert "scaffold" in contexts(got).values()
    expected = modular_logits(engine.model, got.layout, got.layout.reusable)
    assert difference(got, expected) <= TOLERANCE


def test_a_prompt_that_begins_with_preamble_and_scaffold_has_the_logits_of_a_full_prefill(
    engine: PromptCache,
) -> None:
    schema = """
    <schema name="trip"><system>You plan trips.</system><user>
    <module name="a">Ann is Bo's elder sister.</module><module name="b">They sail.</module></user>
    <scaffold name="crew" modules="a b"/></schema>"""
    engine.add_schema(schema)
    for policy in (Modular(), Exact()):
        got = prefilled(engine, "<a/><b/>What now?", policy)
        assert difference(got, plain_logits(engine.model, got.layout.ids)) <= TOLERANCE
        assert got.usage.approximate == got.usage.encoded == 0
        assert spans(got)["trip.b"].provenance is Provenance.EXACT
    engine.add_schema(SCHEMA)


MASKED = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="a">Ann is Bo's elder sister.</module><module name="b">They sail.</module>
<module name="c">It rains.</module></user><scaffold name="crew" modules="b a"/></schema>
"""


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "phi3", "olmo2", "granite"])
@pytest.mark.parametrize(
    ("imports", "blocks"),
    [
        ("<b/><a/><c/>What?", "113"),
        ("Hear: <c/> and <b/><a/>What?", "113"),
        ("<c/><a/><b/>What?", "123"),
        ("<b/> and <a/>What?", "123"),
    ],
)
def test_the_logits_are_those_of_one_forward_with_a_block_mask(
    family: str, imports: str, blocks: str
) -> None:
    cache = PromptCache(model(family), byte_tokenizer())
    cache.add_schema(MASKED)
    got = prefilled(cache, imports)
    block_of = {f"trip.{name}": int(block) for name, block in zip("abc", blocks, strict=True)}
    expected = block_masked_logits(cache.model, got.layout, block_of)
    assert difference(got, expected) <= TOLERANCE
    others = (1, 2, 3) if blocks == "113" else (1, 1, 3)
    wrong = dict(zip(block_of, others, strict=True))
    assert difference(got, block_masked_logits(cache.model, got.layout, wrong)) > TOLERANCE


@pytest.mark.parametrize(
    "imports",
    ["<bo/><ann/><may/>What?", "<ann/><bo/>What?", "<ann/><bo/> in <may/>What?",
     "<ann/><bo/><june/>What?"],
)  # fmt: skip
def test_another_order_or_some_of_them_are_served_by_their_own_encodings(imports: str) -> None:
    cache = llama()
    got = prefilled(cache, imports)
    assert "scaffold" not in contexts(got).values()
    assert got.usage.encoded == 0
    expected = modular_logits(cache.model, got.layout, got.layout.reusable)
    assert difference(got, expected) <= TOLERANCE
    assert all(piece.run and piece.run.name == piece.module for piece in got.layout.reusable)


def test_states_of_a_scaffold_and_of_a_module_alone_have_keys_of_their_own() -> None:
    cache = llama()
    together = spans(prefilled(cache, "<ann/><bo/><may/>What?"))
    alone = spans(prefilled(cache, "<ann/><may/>What?"))
    other = spans(prefilled(cache, "<may/><ann/>What?"))
    assert together["trip.ann"].key == together["trip.may"].key
    keys = {shown["trip.ann"].key for shown in (together, alone, other)}
    assert len(keys) == 3 and None not in keys


def test_what_was_asked_before_changes_no_logits() -> None:
    prompts = ["<ann/><bo/><may/>What?", "<may/><ann/>What?", "<ann/>What?", "<bo/><may/>What?"]
    fresh = {prompt: prefilled(llama(), prompt).logits for prompt in prompts}
    for order in list(permutations(prompts))[::5]:
        cache = PromptCache(model("llama"), byte_tokenizer())
        cache.add_schema(SCHEMA, encode=False)
        for prompt in (*order, *order):
            assert torch.allclose(prefilled(cache, prompt).logits, fresh[prompt], atol=1e-5)


def test_add_schema_encodes_scaffolds_and_without_it_the_first_prompt_does() -> None:
    assert prefilled(llama(), "<ann/><bo/><may/>What?").usage.encoded == 0
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(SCHEMA, encode=False)
    first = prefilled(cache, "<ann/><bo/><may/>What?")
    assert spans(first)["trip.bo"].provenance is Provenance.ENCODED
    assert prefilled(cache, "<ann/><bo/><may/>Why?").usage.encoded == 0


def test_a_scaffold_behind_other_text_is_approximate_and_says_what_it_saw() -> None:
    shown = spans(prefilled(llama(), "Hear: <may/><ann/>What?"))
    for name in ("trip.may", "trip.ann"):
        assert shown[name].provenance is Provenance.APPROXIMATE
        assert shown[name].context == "scaffold"


def test_behind_an_argument_that_was_not_seen_the_rest_of_a_scaffold_is_approximate() -> None:
    shown = spans(prefilled(llama(), "<ann/><bo what='1 dog'/><may/>What?"))
    assert shown["trip.ann"].provenance is Provenance.EXACT
    assert shown["trip.may"].provenance is Provenance.APPROXIMATE


def test_first_k_computes_the_beginning_of_a_scaffold_again_and_not_of_each_module() -> None:
    got = prefilled(llama(), "Hear: <may/><ann/>What?", FirstK(4))
    shown = spans(got)
    assert (shown["trip.may"].recomputed, shown["trip.ann"].recomputed) == (4, 0)


def test_what_the_chat_template_writes_between_the_messages_of_a_scaffold_is_part_of_it() -> None:
    schema = """
    <schema name="trip"><system>You add.</system>
    <module name="one"><user>1 + 1</user><assistant>2</assistant></module>
    <module name="two"><user>2 + 2</user><assistant>4</assistant></module>
    <scaffold name="both" modules="one two"/></schema>"""
    cache = llama(schema)
    got = prefilled(cache, "<one/><two/><user>3 + 3</user>")
    assert difference(got, plain_logits(cache.model, got.layout.ids)) <= TOLERANCE
    assert got.usage.approximate == got.usage.encoded == 0
    frame = spans(got)["trip.both"]
    assert (frame.text, frame.provenance) == ("</s><|user|>", Provenance.EXACT)


def test_where_the_template_changes_a_module_the_others_are_served_by_their_own() -> None:
    template = TEMPLATE.replace("message.content", "message.content.strip()")
    schema = """
    <schema name="trip"><user><module name="a" xml:space="preserve"> Ann is tall.</module>
    <module name="b"> Bo is not.</module></user><scaffold name="f" modules="a b"/></schema>"""
    cache = llama(schema, template)
    got = prefilled(cache, "<a/><b/>What?")
    assert contexts(got)["b"] == "preamble"
    assert TRIMMED in {span.note for span in got.account[0]}
    expected = modular_logits(cache.model, got.layout, got.layout.reusable)
    assert difference(got, expected) <= TOLERANCE


def test_encoded_bare_a_scaffold_attends_to_the_first_token_and_itself() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), context="bare")
    cache.add_schema(SCHEMA)
    reply = cache.generate(f'<prompt schema="trip">{SERVED[0]}</prompt>', max_new_tokens=2)
    assert reply.usage.encoded == 0
    assert {s.context for s in reply.trace if s.module == "trip.bo"} == {"scaffold"}


def test_prompts_that_are_answered_at_once_share_a_scaffold() -> None:
    cache = llama()
    prompts = [f'<prompt schema="trip">{imports}</prompt>' for imports in SERVED]
    alone = [cache.generate(prompt, max_new_tokens=6).token_ids for prompt in prompts]
    assert [reply.token_ids for reply in cache.batch(prompts, max_new_tokens=6)] == alone


def test_without_reuse_a_scaffold_changes_nothing() -> None:
    cache = llama()
    got = prefilled(cache, SERVED[0], NoReuse())
    assert difference(got, plain_logits(cache.model, got.layout.ids)) <= TOLERANCE


def test_a_scaffold_whose_tokens_are_a_modules_too_shares_its_states() -> None:
    schema = """
    <schema name="trip"><system>You plan trips.</system><user>
    <module name="a">Ann is tall.</module><module name="b"> Bo is not.</module>
    <module name="c">Ann is tall. Bo is not.</module></user>
    <scaffold name="both" modules="a b"/></schema>"""
    cache = llama(schema)
    both, alone = prefilled(cache, "<a/><b/>So?"), prefilled(cache, "<c/>So?")
    assert both.usage.encoded == alone.usage.encoded == 0
    assert spans(both)["trip.a"].key == spans(alone)["trip.c"].key
    assert torch.equal(both.logits, alone.logits)


def test_what_places_of_parameters_make_too_long_to_encode_is_computed() -> None:
    cache = PromptCache(model("llama_dynamic"), byte_tokenizer())
    limit = cache.traits.movement.limit
    assert limit == 64
    schema = """
    <schema name="trip"><system>Hi.</system><user>
    <module name="a">Ann: <param name="p" len="30"/>.</module>
    <module name="b">Bo: <param name="p" len="30"/>.</module>
    <module name="c">Cy: <param name="p" len="300"/>.</module></user>
    <scaffold name="both" modules="a b"/></schema>"""
    cache.add_schema(schema)
    apart = prefilled(cache, "<a p='x'/><b p='y'/>So?")
    assert contexts(apart)["b"] == "preamble"
    expected = modular_logits(cache.model, apart.layout, apart.layout.reusable)
    assert difference(apart, expected) <= TOLERANCE
    alone = prefilled(cache, "<c p='z'/>So?")
    assert TOO_LONG in {span.note for span in alone.account[0]}
    assert difference(alone, plain_logits(cache.model, alone.layout.ids)) <= TOLERANCE
