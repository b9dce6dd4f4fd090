"""What a conversation has computed serves its next turn, and changes no answer."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from promptcache import Exact, MemoryStore, Modular, NoReuse, PromptCache, Provenance, Selective
from promptcache.clock import Clock
from promptcache.layout import Layout
from promptcache.reuse import ReusePolicy
from promptcache.stream import Stream
from promptcache.text.stream import TextStream
from support.reference import modular_logits, plain_logits
from support.words import byte_tokenizer
from support.zoo import FAMILIES, model

DOCUMENTS = [f"Document {i}: {'abcde'[i] * (3 * i + 4)} is the answer." for i in range(5)]
LETTERS = [*range(ord("a"), ord("z") + 1)]
SMALL = 60_000
"""Bytes: room for a few turns, so that most of them evict others."""

Chat = list[dict[str, str]]


def engine(family: str = "llama", **options: object) -> PromptCache:
    cache = PromptCache(model(family), byte_tokenizer(), **options)  # type: ignore[arg-type]
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def said_by(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def quiet(cache: PromptCache) -> list[int]:
    """Every token but small letters, so that an answer's text has the tokens it was made of."""
    kept = {cache.token_ids(chr(letter))[0] for letter in LETTERS}
    return [i for i in range(cache.model.config.vocab_size) if i not in kept]


def ask(cache: PromptCache, chat: Chat, **options: object):  # type: ignore[no-untyped-def]
    asked = {"max_new_tokens": 6, "suppress_tokens": quiet(cache), "temperature": 0, **options}
    reply = cache.generate_messages(chat, **asked)
    chat.append({"role": "assistant", "content": reply.text})
    return reply


def test_each_of_ten_turns_computes_that_turn_alone() -> None:
    cache = engine()
    chat: Chat = [{"role": "system", "content": f"Read.\n\n{DOCUMENTS[0]}\n\n{DOCUMENTS[1]}"}]
    end = 0
    for turn in range(10):
        chat.append(said_by(f"Question {turn}?"))
        reply = ask(cache, chat)
        if turn:
            assert reply.usage.computed_tokens == reply.usage.input_tokens - end
            assert not reply.trace.warnings
        end = reply.usage.input_tokens + reply.usage.output_tokens - 1


def test_the_spans_of_a_prompt_still_make_up_its_text_and_its_tokens() -> None:
    cache = engine()
    chat: Chat = [{"role": "system", "content": f"Read äöü.\n\n{DOCUMENTS[0]}\n\n{DOCUMENTS[1]}"}]
    for turn in range(3):
        chat.append(said_by(f"Frage {turn} über € und 𝄞?"))
        reply = ask(cache, chat)
        assert sum(span.tokens for span in reply.trace) == reply.usage.input_tokens
        assert [span.start for span in reply.trace] == [
            sum(span.tokens for span in reply.trace.spans[:i]) for i in range(len(reply.trace))
        ]
        text = "".join(span.text for span in reply.trace)
        assert text.endswith(f"Frage {turn} über € und 𝄞?</s><|assistant|>")
    earlier = [span for span in reply.trace if span.module == "conversation"]
    assert {span.provenance for span in earlier} == {Provenance.EXACT, Provenance.APPROXIMATE}
    assert all(span.tier == "memory" and span.key for span in earlier)


def test_after_documents_that_moved_earlier_turns_are_approximate_and_before_exact() -> None:
    cache = engine()
    chat: Chat = [said_by("Hello there, you.")]
    ask(cache, chat)
    chat.append(said_by("And now?"))
    reply = ask(cache, chat)
    assert reply.usage.approximate == 0
    assert reply.usage.exact == reply.usage.reused_tokens > 0


def test_documents_behind_turns_without_a_system_message_are_encoded_once() -> None:
    cache = engine()
    chat: Chat = []
    text = "Answer from these texts:\n\n" + "\n\n".join(DOCUMENTS[:3])
    for turn in range(4):
        asked = [*chat, said_by(f"{text}\n\nQuestion {turn}?")]
        reply = ask(cache, asked)
        chat += [said_by(f"Question {turn}?"), asked[-1]]  # history without the documents
        modules = [span for span in reply.trace if span.text in DOCUMENTS]
        assert len(modules) == 3
        assert all((span.provenance == Provenance.ENCODED) == (turn == 0) for span in modules)


def test_a_mark_that_moves_on_with_the_conversation_leaves_earlier_blocks_reused() -> None:
    cache = PromptCache(model("llama"), byte_tokenizer())
    marked = {"cache_control": {"type": "ephemeral"}}
    chat: list[dict[str, object]] = []
    end = 0
    for turn in range(3):
        block = {"type": "text", "text": f"Part {turn} of what there is to read, at length.\n"}
        question = {"type": "text", "text": "What does it say?"}
        asked = [*chat, {"role": "user", "content": [{**block, **marked}, question]}]
        reply = ask(cache, asked)  # type: ignore[arg-type]
        chat += [{"role": "user", "content": [block, question]}, asked[-1]]
        if turn:
            assert reply.usage.reused_tokens >= end
            assert not reply.trace.warnings
        end = reply.usage.input_tokens


def test_a_prompt_that_shares_its_beginning_alone_is_no_earlier_turn() -> None:
    cache = engine()
    ask(cache, [said_by("Something quite different was asked here before, at some length.")])
    chat = [said_by("So?"), {"role": "assistant", "content": "Yes, so."}, said_by("Why?")]
    [warning] = ask(cache, chat).trace.warnings
    assert "none that this prompt goes on from is kept" in warning


def test_a_turn_takes_the_place_of_the_one_before_it_in_the_store() -> None:
    cache = engine()
    chat: Chat = []
    sizes = []
    for turn in range(4):
        chat.append(said_by(f"Question {turn}?"))
        ask(cache, chat)
        sizes.append(len(cache.store.keys()))
    assert len(set(sizes)) == 1


def test_a_conversation_that_grows_pushes_out_nothing_while_there_is_room() -> None:
    tokens = sum(len(document) for document in DOCUMENTS) + 600
    each = engine().traits.token_bytes
    cache = engine(store=MemoryStore(each * tokens))
    preamble = "Answer from these, please:\n\n"
    cache.cache_documents(DOCUMENTS, preamble=preamble, progress=False)
    documents = set(cache.store.keys())
    chat: Chat = []
    for turn in range(16):
        chat.append(said_by(f"Which one is it, {turn}?"))
        end = ask(cache, chat).usage.input_tokens
        assert documents <= set(cache.store.keys())
    assert 300 < end < 500


def test_two_ways_to_go_on_from_one_answer_are_both_kept() -> None:
    cache = engine()
    chat: Chat = [said_by("A question that begins it?")]
    ask(cache, chat)
    ways = [[*chat, said_by("One way?")], [*chat, said_by("The other way?")]]
    for way in ways:
        ask(cache, way)
    for way in ways:
        way.append(said_by("And then?"))
        end = sum(len(cache.token_ids(message["content"])) for message in way[:-1])
        assert ask(cache, way).usage.reused_tokens > end


def test_an_edited_answer_is_reused_up_to_the_edit_and_the_trace_says_so() -> None:
    cache = engine()
    chat: Chat = [said_by("A question that begins it?")]
    ask(cache, chat)
    chat[-1]["content"] = chat[-1]["content"][:2] + "EDITED"
    chat.append(said_by("And now?"))
    reply = ask(cache, chat)
    [warning] = reply.trace.warnings
    assert "known up to token" in warning
    assert "EDITED" in warning


def test_a_template_that_rewrites_history_is_named_as_the_reason() -> None:
    forgetful = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content if loop.last or m.role == 'user' "
        "else 'left out' }}</s>{% endfor %}<|assistant|>"
    )
    cache = PromptCache(model("llama"), byte_tokenizer(), chat_template=forgetful)
    chat: Chat = [said_by("A question that begins it?")]
    ask(cache, chat)
    chat.append(said_by("And now?"))
    [warning] = ask(cache, chat).trace.warnings
    assert "goes on with 'left out" in warning


def test_a_conversation_that_was_held_elsewhere_is_computed_and_the_trace_says_so() -> None:
    cache = engine()
    chat = [said_by("Hello?"), {"role": "assistant", "content": "Yes."}, said_by("Why?")]
    reply = ask(cache, chat)
    assert "none that this prompt goes on from is kept" in reply.trace.warnings[0]
    assert reply.usage.reused_tokens == 0


def test_no_reuse_reuses_no_turn_and_keeps_none() -> None:
    cache = engine(reuse=NoReuse())
    chat: Chat = [said_by("Hello there, you.")]
    ask(cache, chat)
    chat.append(said_by("And now?"))
    assert ask(cache, chat).usage.reused_tokens == 0
    assert cache.store.keys() == []


def test_conversations_can_be_turned_off() -> None:
    cache = engine(conversations=False)
    chat: Chat = [said_by("Hello there, you.")]
    ask(cache, chat)
    chat.append(said_by("And now?"))
    assert ask(cache, chat).usage.reused_tokens == 0


def test_another_tenant_finds_nothing() -> None:
    store = MemoryStore(1_000_000)
    mine, theirs = (engine(store=store, namespace=name) for name in ("mine", "theirs"))
    chat: Chat = [said_by("A secret that was told?")]
    ask(mine, [*chat])
    assert ask(theirs, [*chat]).usage.reused_tokens == 0


def test_an_answer_that_is_left_early_serves_as_far_as_it_came() -> None:
    cache = engine()
    chat: Chat = [said_by("A question that begins it?")]
    with cache.stream_messages(
        chat, max_new_tokens=40, suppress_tokens=quiet(cache), temperature=0
    ) as stream:
        begun = next(stream) + next(stream) + next(stream)
    chat += [{"role": "assistant", "content": begun}, said_by("Go on?")]
    reply = ask(cache, chat)
    assert reply.usage.reused_tokens >= len(cache.token_ids(chat[0]["content"])) + 2


def test_weights_that_changed_serve_no_earlier_turn() -> None:
    changed = model("llama")
    cache = engine()
    chat: Chat = [said_by("A question that begins it?")]
    ask(cache, chat)
    weight = changed.get_input_embeddings().weight
    with torch.no_grad():
        weight[5, 0] += 1
    try:
        chat.append(said_by("And now?"))
        assert ask(cache, chat).usage.reused_tokens == 0
    finally:
        with torch.no_grad():
            weight[5, 0] -= 1


def test_what_was_computed_with_weights_that_changed_meanwhile_is_not_kept() -> None:
    cache = engine()
    weight = model("llama").get_input_embeddings().weight
    chat: Chat = [said_by("A question that begins it?")]
    stream = cache.stream_messages(chat, max_new_tokens=20, suppress_tokens=quiet(cache))
    next(stream)
    with torch.no_grad():
        weight[5, 0] += 1
    try:
        stream.close()
        assert ask(cache, [*chat]).usage.reused_tokens == 0
    finally:
        with torch.no_grad():
            weight[5, 0] -= 1


@dataclass(frozen=True)
class FirstFour(Modular):
    """Computes the first tokens of each module that is not exact."""

    def recomputed(self, layout: Layout, records: object, check: object) -> list[int]:
        del records, check
        moved = [piece for piece in layout.reusable if not piece.exact]
        return [place for piece in moved for place in range(piece.start, piece.start + 4)]


def test_a_module_whose_recomputed_tokens_an_earlier_turn_serves_is_still_reused() -> None:
    cache = engine(reuse=FirstFour())
    text = "Read.\n\n" + "\n\n".join(DOCUMENTS[:3])
    chat: Chat = [{"role": "system", "content": text}, said_by("Which one?")]
    ask(cache, chat)
    chat.append(said_by("And why?"))
    reply = ask(cache, chat)
    assert reply.usage.recomputed == 0
    assert reply.usage.input_tokens == sum(span.tokens for span in reply.trace)
    parts = [span for span in reply.trace if span.text and DOCUMENTS[1].endswith(span.text)]
    assert [(span.provenance, span.tier) for span in parts] == [(Provenance.APPROXIMATE, "memory")]


def test_another_last_message_with_documents_in_it_is_no_reason_for_a_note() -> None:
    cache = engine()
    chat: Chat = [said_by("Hello there, you.")]
    ask(cache, chat)
    for document in DOCUMENTS[:2]:
        last = said_by(f"Read this.\n\n{document}\n\nWhich is it?")
        assert not ask(cache, [*chat, last]).trace.warnings


@dataclass(frozen=True)
class Say:
    """The next turn of a chat, or the first of a new one."""

    chat: int
    documents: tuple[int, ...]
    question: str
    tokens: int
    edited: bool
    late: bool
    policy: ReusePolicy


@dataclass(frozen=True)
class Evict:
    """Everything goes."""


EVENTS = st.lists(
    st.one_of(
        *[
            st.builds(
                Say,
                st.integers(0, 3),
                st.lists(st.integers(0, 4), max_size=3, unique=True).map(tuple),
                st.sampled_from(["Which?", "Why so long?", DOCUMENTS[4]]),
                st.integers(1, 5),
                st.sampled_from([False, False, False, True]),
                st.booleans(),
                st.sampled_from([Modular(), Modular(), Selective(0.3), Exact(), NoReuse()]),
            )
        ]
        * 6,
        st.just(Evict()),
    ),
    min_size=2,
    max_size=8,
)


def answered(cache: PromptCache, chat: Chat, say: Say) -> str:
    """An answer's text, once the logits before it were checked against plain transformers."""
    segments = cache._prompts.from_messages(chat, cache._shelf.recognise)
    got = cache._pipeline.run(segments, say.policy, Clock(), room=say.tokens, continues=True)
    reused, again = got.layout.reusable, got.served.missing
    expected = (
        modular_logits(cache.model, got.layout, reused, again)
        if say.policy.moves
        else plain_logits(cache.model, got.layout.ids)
    )
    assert torch.allclose(got.logits[0], expected, atol=1e-4)
    assert got.usage.input_tokens == len(got.layout.ids)
    options = {"max_new_tokens": say.tokens, "do_sample": False, "suppress_tokens": quiet(cache)}
    text = TextStream(cache.tokenizer)
    stream = Stream(
        got, Clock(), text, cache._runner,
        options=options, seed=None, model="", policy="",
    )  # fmt: skip
    return "".join(stream)


def texts(say: Say) -> str:
    return "Answer from these:\n\n" + "\n\n".join(DOCUMENTS[i] for i in say.documents) + "\n"


def run_chats(family: str, events: list[Say | Evict]) -> None:
    cache = engine(family, store=MemoryStore(SMALL))
    chats: dict[int, Chat] = {}
    for event in events:
        if isinstance(event, Evict):
            cache.store.evict()
            continue
        if event.chat not in chats:
            chats[event.chat] = [] if event.late else [{"role": "system", "content": texts(event)}]
        chat = chats[event.chat]
        chat.append(said_by((texts(event) if event.late else "") + event.question))
        answer = answered(cache, chat, event)
        chat.append({"role": "assistant", "content": answer + "!" * event.edited})
        cache.store.check_integrity()


QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


@settings(max_examples=150, deadline=None, suppress_health_check=QUIET,
          phases=[Phase.explicit, Phase.reuse, Phase.generate], derandomize=True)  # fmt: skip
@given(family=st.sampled_from(sorted(FAMILIES)), events=EVENTS)
def test_logits_never_depend_on_earlier_turns_being_kept(
    family: str, events: list[Say | Evict]
) -> None:
    run_chats(family, events)


@pytest.mark.stress
@settings(max_examples=3_000, deadline=None, suppress_health_check=QUIET)
@given(family=st.sampled_from(sorted(FAMILIES)), events=EVENTS)
def test_logits_never_depend_on_earlier_turns_in_thousands_of_chats(
    family: str, events: list[Say | Evict]
) -> None:
    run_chats(family, events)
