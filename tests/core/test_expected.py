"""Expected attention states: what they are, and when they serve."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from promptcache import Exact, Expected, MemoryStore, Modular, PromptCache
from promptcache.clock import Clock
from promptcache.errors import OptionError, OutOfMemoryError
from promptcache.model.encode import IN_BACKGROUND
from promptcache.model.expected import SENSITIVITY
from promptcache.trace import Provenance
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer
from support.zoo import FAMILIES, model

DECOYS = Expected(("A bee.", "", "Two, or so", "x"))
SCHEMA = """
<schema name="trip"><system>You plan trips.</system><user>
<module name="plan">Plan a trip of <param name="days" len="8"/> for two people.</module>
<module name="miami">Miami is hot and loud.</module>
<module name="maui">Maui is an island in the sea.</module></user></schema>
"""
PROMPT = '<prompt schema="trip"><maui/><plan days="3 days"/><miami/>What now?</prompt>'
DOCUMENTS = [f"Document {word} is about {word * 3}, and no more." for word in "abc"]


def asked(*documents: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": "Read:\n" + "\n".join(documents) + "\nWell?"}]


def engine(family: str = "llama", **options: Any) -> PromptCache:
    return PromptCache(model(family), byte_tokenizer(), conversations=False, **options)


def contexts(cache: PromptCache, *documents: str, **options: Any) -> dict[str | None, str | None]:
    reply = cache.generate_messages(asked(*documents), max_new_tokens=1, **options)
    return {span.text: span.context for span in reply.trace if span.text in documents}


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_prompt_has_the_logits_of_the_mean_over_decoys_as_plain_transformers_computes_it(
    family: str,
) -> None:
    cache = engine(family, context=DECOYS)
    cache.add_schema(SCHEMA)
    segments = cache._prompts.from_pml(PROMPT, {})
    got = cache._pipeline.run(segments, Modular(), Clock(), room=1)
    contexts = {str(p.run.context.kind) for p in got.layout.reusable if p.run}
    assert contexts == {"start", "expected"}
    expected = modular_logits(cache.model, got.layout, got.layout.reusable)
    assert torch.allclose(got.logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "gemma2", "mpt"])
def test_expected_states_are_others_than_those_after_the_preamble(family: str) -> None:
    logits = []
    for context in ("preamble", DECOYS):
        cache = engine(family, context=context)
        cache.add_schema(SCHEMA)
        segments = cache._prompts.from_pml(PROMPT, {})
        logits.append(cache._pipeline.run(segments, Modular(), Clock(), room=1).logits)
    assert not torch.allclose(*logits, atol=1e-4)


def test_expected_states_are_never_called_exact_and_exact_does_not_take_them() -> None:
    cache = engine(context=DECOYS)
    cache.add_schema(SCHEMA)
    spans = cache.generate(PROMPT, max_new_tokens=1).trace
    assert {s.provenance for s in spans if s.context == "expected"} == {Provenance.APPROXIMATE}
    segments = cache._prompts.from_pml(PROMPT, {})
    got = cache._pipeline.run(segments, Exact(), Clock(), room=1)
    assert torch.allclose(got.logits[0], plain_logits(cache.model, got.layout.ids), atol=1e-4)


@torch.no_grad()
def test_tokens_that_depend_more_on_what_stands_before_are_more_sensitive() -> None:
    cache = engine(context=DECOYS)
    cache.add_schema(SCHEMA)
    [run] = [r for r in cache._library.held() if r.name == "trip.maui"]
    record = cache._library.fetch([run])[run].kv
    context = run.context.ids
    copies = []
    for decoy in run.context.decoys:
        out = cache.model(torch.tensor([[*context, *decoy, *run.ids]]), use_cache=True)
        mine = slice(len(context) + len(decoy), None)
        values = [layer.values[0, :, mine] for layer in out.past_key_values.layers]
        copies.append(torch.cat(values, dim=0))
    variance = torch.stack(copies).var(dim=0, correction=0).sum((0, 2))
    assert (record.side[SENSITIVITY] >= variance - 1e-6).all()
    assert record.side[SENSITIVITY].shape == (len(run.ids),)


def test_what_a_prompt_is_the_first_to_show_stands_after_its_preamble_until_it_is_refined() -> None:
    cache = engine(context=DECOYS)
    cache.cache_documents(DOCUMENTS, progress=False)
    assert set(contexts(cache, *DOCUMENTS).values()) == {"preamble"}
    assert cache.refine(progress=False) == 3
    assert cache.refine(progress=False) == 0
    kinds = [str(run.context.kind) for run in cache._library.held()]
    assert kinds == ["expected"] * 3
    assert set(contexts(cache, *DOCUMENTS).values()) == {"expected"}
    reply = cache.generate_messages(asked(*DOCUMENTS), max_new_tokens=1)
    assert reply.usage.encoded == 0
    cache.store.check_integrity()


def test_refining_in_the_background_gives_the_same_states() -> None:
    refined = []
    for background in (False, True):
        cache = engine()
        cache.cache_documents(DOCUMENTS, progress=False)
        cache.generate_messages(asked(*DOCUMENTS), max_new_tokens=1)
        done = cache.refine_in_background().result(60) if background else cache.refine()
        assert done == 3
        refined.append(cache.generate_messages(asked(*DOCUMENTS), max_new_tokens=8))
    assert refined[0].token_ids == refined[1].token_ids
    assert refined[0].usage == refined[1].usage


def test_an_expected_module_that_was_evicted_is_encoded_as_one_again() -> None:
    cache = engine(context=DECOYS)
    cache.cache_documents(DOCUMENTS, preamble="Read:\n", progress=False)
    text = "Read:\n" + "\n".join(DOCUMENTS) + "\nWell?"
    before = cache.generate_text(text, max_new_tokens=8)
    cache.store.evict()
    after = cache.generate_text(text, max_new_tokens=8)
    assert after.usage.encoded > 0
    assert after.token_ids == before.token_ids
    assert {span.context for span in after.trace if span.text in DOCUMENTS} == {"expected"}


def test_contexts_differ_by_document_and_by_decoys() -> None:
    cache = engine()
    both = {"preamble": "Read:\n", "progress": False}
    cache.cache_documents(DOCUMENTS[:1], context="expected", **both)
    cache.cache_documents(DOCUMENTS[1:2], context=DECOYS, **both)
    cache.cache_documents(DOCUMENTS[2:], **both)
    reply = cache.generate_text("Read:\n" + "\n".join(DOCUMENTS) + "\nWell?", max_new_tokens=1)
    served = {s.text: s.context for s in reply.trace if s.text in DOCUMENTS}
    assert list(served.values()) == ["expected", "expected", "preamble"]
    decoys = {len(run.context.decoys) for run in cache._library.held()}
    assert decoys == {0, 4, 5}
    keys = {cache._library.key(run) for run in cache._library.held()}
    cache.cache_documents(DOCUMENTS[1:2], context="expected", **both)
    assert len({cache._library.key(run) for run in cache._library.held()} - keys) == 1


def test_a_document_that_was_forgotten_is_a_new_one_when_it_comes_again() -> None:
    cache = engine()
    both = {"preamble": "Read:\n", "progress": False}
    cache.cache_documents(DOCUMENTS, context="expected", **both)
    cache.forget_documents(DOCUMENTS[:1])
    cache.cache_documents(DOCUMENTS[:1], progress=False)
    reply = cache.generate_text("Read:\n" + "\n".join(DOCUMENTS) + "\nWell?", max_new_tokens=1)
    served = [s.context for s in reply.trace if s.text in DOCUMENTS]
    assert served == ["preamble", "expected", "expected"]


def test_asking_for_the_preamble_again_takes_expected_states_out_of_service() -> None:
    cache = engine(context="expected")
    both = {"preamble": "Read:\n", "progress": False}
    cache.cache_documents(DOCUMENTS, **both)
    cache.cache_documents(DOCUMENTS, context="preamble", **both)
    reply = cache.generate_text("Read:\n" + "\n".join(DOCUMENTS) + "\nWell?", max_new_tokens=1)
    assert {s.context for s in reply.trace if s.text in DOCUMENTS} == {"preamble"}


def test_pinned_modules_are_pinned_as_expected_states_too() -> None:
    cache = engine()
    cache.cache_documents(DOCUMENTS, preamble="Read:\n", pin=True, progress=False)
    assert cache.refine(progress=False) == 3
    cache.store.evict()
    reply = cache.generate_text("Read:\n" + "\n".join(DOCUMENTS) + "\nWell?", max_new_tokens=1)
    served = {s.context: s.provenance for s in reply.trace if s.text in DOCUMENTS}
    assert served == {"expected": Provenance.APPROXIMATE}


def test_refining_takes_states_of_decoys_that_are_no_longer_asked_for_out_of_the_store() -> None:
    cache = engine()
    options: dict[str, Any] = {"preamble": "Read:\n", "progress": False, "pin": True}
    for expected in (Expected(("A bee.",)), DECOYS):
        cache.cache_documents(DOCUMENTS[:1], context=expected, **options)
    decoys = [len(run.context.decoys) for run in cache._library.held()]
    assert sorted(decoys) == [1, 4]
    assert cache.refine(progress=False) == 0
    kept = {run: key for run, key in cache._library.held().items() if run.context.decoys}
    assert [len(run.context.decoys) for run in kept] == [4]
    cache.store.evict()
    assert [*cache.store.keys()] == [*kept.values()]  # pinned, as it was asked for


def test_refining_without_memory_gives_up_and_evicts_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = engine()
    cache.cache_documents(DOCUMENTS, progress=False)
    cache.generate_messages(asked(*DOCUMENTS), max_new_tokens=1)
    before = cache.store.keys()

    def no_memory(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(cache._runner, "forward", no_memory)
    with pytest.raises(OutOfMemoryError, match="refining 3 modules; no modules were evicted"):
        cache.refine_in_background().result(60)
    assert cache.store.keys() == before


def test_refining_runs_the_model_over_few_tokens_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine(context=DECOYS)
    documents = [f"Document {n} says: " + 20 * f"{n} and on, " for n in range(4)]
    assert sum(map(len, documents)) > IN_BACKGROUND
    cache.cache_documents(documents, progress=False)
    cache.generate_messages(asked(*documents), max_new_tokens=1)
    forward, sizes = cache._runner.forward, []

    def seen(ids: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        sizes.append(ids.numel())
        return forward(ids, *args, **kwargs)

    monkeypatch.setattr(cache._runner, "forward", seen)
    assert cache.refine(progress=False) == 4
    assert max(sizes) <= IN_BACKGROUND


def test_states_that_the_store_has_no_room_for_replace_none() -> None:
    text = "Read:\n" + "\n".join(DOCUMENTS) + "\nWell?"
    trial = engine()
    trial.cache_documents(DOCUMENTS, preamble="Read:\n", pin=True, progress=False)
    cache = engine(store=MemoryStore(trial.store.nbytes))
    cache.cache_documents(DOCUMENTS, preamble="Read:\n", pin=True, progress=False)
    assert cache.refine(progress=False) == 0
    reply = cache.generate_text(text, max_new_tokens=1)
    assert {s.context for s in reply.trace if s.text in DOCUMENTS} == {"preamble"}
    assert reply.usage.encoded == 0


def test_registering_again_leaves_expected_states_in_service() -> None:
    cache = engine()
    both = {"preamble": "Read:\n", "progress": False}
    cache.cache_documents(DOCUMENTS, **both)
    assert cache.refine(progress=False) == 3
    assert cache.cache_documents(DOCUMENTS, **both).encoded == 0
    assert {str(run.context.kind) for run in cache._library.held()} == {"expected"}


@pytest.mark.parametrize("name", ["report.v2", "a"])
def test_a_named_document_that_was_forgotten_is_forgotten(name: str) -> None:
    cache = engine()
    schema = '<schema name="s"><user>U<collection name="c"/></user></schema>'
    cache.add_schema(schema)
    for context, kind in (("expected", "expected"), (None, "preamble")):
        cache.cache_documents({name: DOCUMENTS[0]}, schema="s", context=context, progress=False)
        prompt = f'<prompt schema="s"><c><doc key="{name}"/></c>Well?</prompt>'
        spans = cache.generate(prompt, max_new_tokens=1).trace
        assert {s.context for s in spans if s.text == DOCUMENTS[0]} == {kind}
        cache.forget_documents(DOCUMENTS[:1])


def test_where_keys_cannot_be_moved_nothing_is_refined_and_exact_reuses_as_before() -> None:
    cache = engine("gpt2", context="expected", reuse=Exact())
    text = "Read:\n" + DOCUMENTS[0] + "\nWell?"
    cache.cache_documents(DOCUMENTS, preamble="Read:\n", progress=False)
    assert cache.refine(progress=False) == 0
    reply = cache.generate_text(text, max_new_tokens=1)
    assert reply.usage.exact > len(DOCUMENTS[0])


def test_a_bare_engine_refuses_other_contexts_and_refines_nothing() -> None:
    cache = engine(context="bare")
    with pytest.raises(OptionError, match="encodes all modules bare"):
        cache.cache_documents(DOCUMENTS, preamble="Read:\n", context="expected", progress=False)
    cache.add_schema(SCHEMA)
    assert cache.refine(progress=False) == 0


ENDS = """
from promptcache import PromptCache, Sensitive
from support.words import byte_tokenizer
from support.zoo import model

cache = PromptCache(model("llama"), byte_tokenizer(), reuse=Sensitive(0.2))
documents = [f"Document {n} is about {n * 7}, and no more of it." for n in range(15)]
cache.cache_documents(documents, progress=False)
ask = [{"role": "user", "content": "Read:\\n" + "\\n".join(documents) + "\\nWell?"}]
cache.generate_messages(ask, max_new_tokens=1)
cache.refine_in_background()
"""


def test_a_process_ends_in_peace_while_modules_are_ranked_and_refined() -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", ENDS],
        cwd=tests, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, "terminate" in done.stderr) == (0, False), done.stderr


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Expected(()), "at least one"),
        (lambda: Expected(("a", " ")), "texts that say something, or empty ones"),
        (lambda: Expected(("", "")), "at least one of them has to say something"),
        (lambda: Expected(("a", 3)), "an int"),  # type: ignore[arg-type]
        (lambda: engine(context="mean"), "'preamble', 'expected', 'bare'"),
        (lambda: engine().cache_documents(["a"], context="bare"), "where the engine is made"),
        (lambda: engine().add_schema(SCHEMA, context="none"), "'preamble', 'expected'"),
    ],
)
def test_what_is_no_context_is_refused(make: Any, said: str) -> None:
    with pytest.raises(OptionError, match=said):
        make()
