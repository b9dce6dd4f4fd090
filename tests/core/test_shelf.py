"""Schemas and documents: registered, encoded, recognised, forgotten."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import torch

from promptcache import (
    MemoryStore,
    Modular,
    PromptCache,
    PromptCacheError,
)
from promptcache.clock import Clock
from promptcache.contexts import PASSING
from promptcache.errors import PMLReferenceError, PromptError
from promptcache.pml import parse_prompt, parse_schema
from support.library import DOCUMENTS, RAG, SYSTEM, messages
from support.reference import plain_logits
from support.words import byte_tokenizer
from support.zoo import model


@pytest.fixture
def engine() -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def test_a_schemas_preamble_is_the_context_of_recognised_prompts() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(
        f'<schema name="rag"><system xml:space="preserve">{SYSTEM}'
        '<collection name="context"/></system></schema>'
    )
    done = cache.cache_documents(DOCUMENTS, schema="rag", progress=False)
    assert done.added == done.encoded == len(DOCUMENTS)
    reply = cache.generate_messages(messages(5, 2), max_new_tokens=2)
    assert reply.usage.encoded == 0
    assert cache.cache_documents(DOCUMENTS, schema="rag", progress=False).encoded == 0


@pytest.mark.parametrize("preamble", [SYSTEM, "Hi: ", ""])
def test_documents_cached_after_a_text_are_reused_in_plain_prompts_that_begin_with_it(
    preamble: str,
) -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    done = cache.cache_documents(DOCUMENTS, preamble=preamble, progress=False)
    assert done.added == done.encoded == len(DOCUMENTS)
    text = preamble + DOCUMENTS[4] + "\n\n" + DOCUMENTS[1] + "\n\nWell?"
    reply = cache.generate_text(text, max_new_tokens=2)
    documents = cache.count_tokens(DOCUMENTS[4]) + cache.count_tokens(DOCUMENTS[1])
    assert reply.usage.encoded == 0
    assert reply.usage.reused_tokens >= documents
    assert cache.cache_documents(DOCUMENTS, preamble=preamble, progress=False).encoded == 0


def test_documents_have_one_preamble() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    with pytest.raises(PromptCacheError, match="documents have one preamble"):
        cache.cache_documents(DOCUMENTS, schema="rag", preamble=SYSTEM)
    with pytest.raises(PromptCacheError, match="the preamble is an int, expected text"):
        cache.cache_documents(DOCUMENTS, preamble=3)  # type: ignore[arg-type]


def test_pinned_documents_survive_eviction() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema('<schema name="rag"><system>S<collection name="context"/></system></schema>')
    cache.cache_documents(DOCUMENTS[:2], schema="rag", progress=False, pin=True)
    cache.cache_documents(DOCUMENTS[2:4], schema="rag", progress=False)
    cache.store.evict()
    assert len(cache.store.keys()) == 2


def test_prompts_that_begin_with_the_question_learn_their_common_context_once(
    engine: PromptCache, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="promptcache"):
        for number in range(5):
            system = f"You answer questions from documents.\nQuestion: number {number}?\n\n"
            reply = engine.generate_messages(messages(0, 1, system=system), max_new_tokens=1)
    assert reply.usage.encoded == 0
    assert sum("encoded after the part that they share" in r.message for r in caplog.records) == 1


def test_without_learning_every_new_beginning_is_a_context_of_its_own() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), learn_contexts=False)
    cache.cache_documents(DOCUMENTS, progress=False)
    for number in range(3):
        system = f"You answer questions from documents.\nQuestion: number {number}?\n\n"
        reply = cache.generate_messages(messages(0, 1, system=system), max_new_tokens=1)
        assert reply.usage.encoded > 0


def test_bare_modules_are_shared_between_preambles() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), context="bare")
    cache.cache_documents(DOCUMENTS, progress=False)
    cache.generate_messages(messages(0, 1), max_new_tokens=1)
    reply = cache.generate_messages(messages(1, 0, system="Quite another one. "), max_new_tokens=1)
    documents = sum(engine_tokens for engine_tokens in map(cache.count_tokens, DOCUMENTS[:2]))
    assert reply.usage.approximate == documents


def test_namespaces_do_not_find_each_others_modules() -> None:
    store = MemoryStore(10**8)
    for namespace in ("a", "b"):
        cache = PromptCache(model("llama"), byte_tokenizer(), store=store, namespace=namespace)
        cache.cache_documents(DOCUMENTS, progress=False)
        assert cache.generate_messages(messages(0), max_new_tokens=1).usage.encoded > 0


def test_a_document_twice_in_a_prompt_is_reused_once_and_computed_once(
    engine: PromptCache,
) -> None:
    reply = engine.generate_messages(messages(0, 1, 0), max_new_tokens=1)
    notes = [span.note for span in reply.trace if span.text == DOCUMENTS[0]]
    assert len(notes) == 2
    assert "stands earlier" in str(notes[1])


def test_forgotten_documents_are_no_longer_recognised(engine: PromptCache) -> None:
    engine.generate_messages(messages(0), max_new_tokens=1)
    held = len(engine.store.keys())
    assert engine.forget_documents(DOCUMENTS[:1]) == 1
    assert len(engine.store.keys()) == held - 1
    reply = engine.generate_messages(messages(0), max_new_tokens=1)
    assert all(span.text != DOCUMENTS[0] for span in reply.trace)


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (DOCUMENTS[0].replace("&", "&amp;"), None),
        ("<b>Bold</b> & more of this text.".replace("<", "&lt;").replace("&", "&amp;"), "HTML"),
        ("Something else altogether.", "not in the prompt"),
    ],
)
def test_an_expected_document_that_was_not_found_is_explained(
    engine: PromptCache, sent: str, why: str | None
) -> None:
    marked = "<b>Bold</b> & more of this text."
    engine.cache_documents([marked], progress=False)
    expected = [DOCUMENTS[0] if why is None else marked]
    sent = "&lt;b&gt;Bold&lt;/b&gt; &amp; more of this text." if why == "HTML" else sent
    reply = engine.generate_text(f"Read: {sent}\nWell?", max_new_tokens=1, expected=expected)
    assert (reply.trace.warnings == ()) is (why is None)
    assert why is None or why in reply.trace.warnings[0]


def test_a_document_that_was_never_registered_is_said_to_be_unknown(engine: PromptCache) -> None:
    reply = engine.generate_text("Hello there", max_new_tokens=1, expected=["Unknown to all."])
    assert reply.trace.warnings == (
        "the document 'Unknown to all.' was expected: it is not registered",
    )


def test_documents_that_do_not_fit_the_budget_are_counted_and_said(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cache = PromptCache(model("llama"), byte_tokenizer(), store=MemoryStore(50_000))
    cache.add_schema(
        f'<schema name="rag"><system>{SYSTEM}<collection name="context"/></system></schema>'
    )
    done = cache.cache_documents(DOCUMENTS, schema="rag", progress=False)
    assert done.encoded == len(DOCUMENTS)
    assert 0 < done.not_kept < len(DOCUMENTS)
    assert "are not kept" in caplog.text


def test_documents_longer_than_any_prompt_are_not_encoded() -> None:
    cache = PromptCache(model("llama_dynamic"), byte_tokenizer())
    cache.add_schema('<schema name="rag"><system>S<collection name="context"/></system></schema>')
    short, long = "A short document.", "A long document. " * 20
    done = cache.cache_documents([short, long], schema="rag", progress=False)
    assert (done.encoded, done.too_long) == (1, 1)
    ask = [{"role": "system", "content": f"S{short}"}, {"role": "user", "content": "So?"}]
    segments = cache._prompts.from_messages(ask, cache._shelf.recognise)
    got = cache._pipeline.run(segments, Modular(), Clock(), room=1)
    assert torch.allclose(got.logits[0], plain_logits(cache.model, got.layout.ids), atol=1e-4)


def test_a_schema_that_cannot_be_laid_out_leaves_the_old_one_in_place(engine: PromptCache) -> None:
    engine.add_schema('<schema name="s"><module name="m">One module.</module></schema>')
    hole = '<module name="m">x<param name="p" len="2" default="much too long"/></module>'
    with pytest.raises(PromptError):
        engine.add_schema(f'<schema name="s">{hole}</schema>')
    assert engine.generate('<prompt schema="s"><m/>Go</prompt>', max_new_tokens=1).usage.exact > 0


@pytest.mark.parametrize("beginning", ["Answer from the documents, please:", "Docs:", ""])
def test_cached_documents_are_reused_whatever_their_prompt_begins_with(beginning: str) -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(RAG.format(beginning))
    cache.cache_documents(DOCUMENTS, schema="rag", progress=False)
    for number, order in enumerate([(0, 1), (3, 2)]):
        extra = f"{beginning}Question {number}: who?\n\n"
        reply = cache.generate_messages(messages(*order, system=extra), max_new_tokens=1)
        assert reply.usage.encoded == 0
        assert reply.usage.approximate > 60


def test_a_schemas_preamble_ends_where_its_documents_begin() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(RAG.format("Answer from the documents: "))
    cache.cache_documents(DOCUMENTS, schema="rag", progress=False)
    prompt = "Answer from the documents: An unknown one.\n\n" + DOCUMENTS[0]
    ask = [{"role": "system", "content": prompt}, {"role": "user", "content": "So?"}]
    reply = cache.generate_messages(ask, max_new_tokens=1)
    assert reply.usage.encoded == 0
    assert reply.usage.approximate == cache.count_tokens(DOCUMENTS[0])


def test_the_preamble_of_another_schema_does_not_shorten_a_prompts_own(engine: PromptCache) -> None:
    before = engine.generate_messages(messages(0, 1), max_new_tokens=1).usage
    engine.add_schema(
        '<schema name="s"><system><module name="m">Module.</module></system></schema>'
    )
    engine.store.evict()
    assert engine.generate_messages(messages(0, 1), max_new_tokens=1).usage == before


def test_documents_are_named_by_their_keys_and_by_their_own_names() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(RAG.format("Answer."))
    named = {"a.txt": DOCUMENTS[0], "b": DOCUMENTS[1]}
    done = cache.cache_documents(named, schema="rag", progress=False)
    docs = f'<doc key="{done.keys[1]}"/><doc key="a.txt"/>'
    prompt = f'<prompt schema="rag"><context>{docs}</context>Well?</prompt>'
    reply = cache.generate(prompt, max_new_tokens=1, expected=DOCUMENTS[:2])
    assert reply.usage.encoded == 0
    assert reply.trace.warnings == ()
    assert cache.forget_documents(DOCUMENTS[:1]) == 1
    with pytest.raises(PromptCacheError, match=r"a\.txt"):
        cache.generate(prompt)


def test_white_space_at_a_documents_edges_does_not_make_it_another(engine: PromptCache) -> None:
    assert engine.cache_documents([DOCUMENTS[0] + "\n"], progress=False).known == 1
    reply = engine.generate_messages(
        messages(0), max_new_tokens=1, expected=["\n" + DOCUMENTS[0] + " "]
    )
    assert reply.trace.warnings == ()
    assert engine.forget_documents([DOCUMENTS[0] + "\n"]) == 1


def test_documents_too_short_to_be_recognised_are_counted(engine: PromptCache) -> None:
    assert engine.cache_documents(["No.", "Yes, it is."], progress=False).too_short == 2


def test_half_an_exchange_is_encoded_when_it_is_first_used() -> None:
    template = (
        "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('roles must alternate') }}{% endif %}"
        "<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
    )
    cache = PromptCache(model("llama"), byte_tokenizer(template))
    cache.add_schema(
        '<schema name="s"><module name="q"><user>What is it?</user></module>'
        '<module name="a"><assistant>It is a test of modules.</assistant></module></schema>'
    )
    prompt = '<prompt schema="s"><q/><a/>And now?</prompt>'
    cache.generate(prompt, max_new_tokens=1)
    assert cache.generate(prompt, max_new_tokens=1).usage.encoded == 0


@pytest.mark.parametrize("edge", ["", "\n", "  \n"])
def test_a_padded_document_is_reused_however_its_edges_arrive(edge: str) -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.add_schema(RAG.format("Answer from the documents:"))
    cache.cache_documents([f"\n{DOCUMENTS[0]}  \n"], schema="rag", progress=False)
    text = f"Answer from the documents:{DOCUMENTS[0]}{edge}"
    ask = [{"role": "system", "content": text}, {"role": "user", "content": "So?"}]
    assert cache.generate_messages(ask, max_new_tokens=1).usage.encoded == 0


def test_a_prompt_may_bring_its_schema_and_documents_along() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    schema = parse_schema(
        '<schema name="own"><system>Answer from these.</system>'
        '<user><collection name="notes" separator=" "/></user></schema>'
    )
    texts = {"a": DOCUMENTS[0], "b": DOCUMENTS[1]}
    markup = '<prompt schema="own"><notes><doc key="{}"/><doc key="{}"/></notes>What?</prompt>'
    first = cache.generate(
        markup.format("a", "b"), schema=schema, documents=texts, max_new_tokens=4
    )
    again = cache.generate(
        parse_prompt(markup.format("b", "a")), schema=schema, documents=texts, max_new_tokens=4
    )
    assert first.usage.encoded > 0 and again.usage.encoded == 0
    assert not cache.schemas
    with pytest.raises(PMLReferenceError, match="there is no schema 'own'"):
        cache.generate(markup.format("a", "b"))
    encoded = cache.cache_documents(DOCUMENTS[:2], schema=schema, progress=False)
    assert encoded.encoded == 0  # the same states serve both


def test_preambles_of_passing_schemas_are_bounded() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    for number in range(PASSING + 20):
        schema = parse_schema(
            f'<schema name="s{number}"><system>Number {number} of a long row.</system>'
            '<user><collection name="notes"/></user></schema>'
        )
        cache.generate(
            f'<prompt schema="s{number}">What?</prompt>', schema=schema, max_new_tokens=1
        )
    known = cache._prompts._contexts.known
    assert len(known) == PASSING and any(f"Number {PASSING + 19} " in text for text in known)


def test_documents_that_came_before_a_loader_failed_are_kept() -> None:
    def loader() -> Iterator[str]:
        yield from DOCUMENTS[:3]
        raise OSError("the share is gone")

    cache = PromptCache(model("llama"), byte_tokenizer())
    with pytest.raises(OSError, match="the share is gone"):
        cache.cache_documents(loader(), preamble=SYSTEM, progress=False)
    again = cache.cache_documents(DOCUMENTS, preamble=SYSTEM, progress=False)
    assert again.known == 3 and again.encoded == len(DOCUMENTS) - 3
