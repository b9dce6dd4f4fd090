"""Prompts that are answered together: each as if asked alone, their modules held once."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from promptcache import Exact, MemoryStore, Modular, NoReuse, PromptCache, Reply, Stage
from promptcache.clock import Clock
from promptcache.errors import OptionError, OutOfMemoryError, PMLError, PromptError
from promptcache.layout import Layout
from promptcache.model.runner import ModelRunner
from promptcache.model.shared import SharedArena, SharedRow
from promptcache.pipeline import Prefilled
from promptcache.reuse import ReusePolicy
from support.library import DOCUMENTS, messages
from support.reference import modular_logits, plain_logits
from support.together import CHATS, TOGETHER
from support.words import byte_tokenizer
from support.zoo import FAMILIES, REFUSED, model

ALONE = ["mistral_windowed", "gemma2", "gemma3", "falcon_alibi", "bloom", "mpt", "gpt_oss", "gpt2"]
"""Windows, soft caps, ALiBi, attention sinks, keys that cannot be moved."""
Chats = Sequence[list[dict[str, Any]]]


def engine(
    family: str = "llama", dtype: torch.dtype = torch.float32, **options: Any
) -> PromptCache:
    cache = PromptCache(model(family, dtype), byte_tokenizer(), **options)
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def prefilled(cache: PromptCache, chats: Chats, policy: ReusePolicy) -> list[Prefilled]:
    laid = [
        cache._pipeline.lay(
            cache._prompts.from_messages(chat, cache._shelf.recognise), policy, room=2
        )
        for chat in chats
    ]
    return cache._answering._batching.prefill(laid, Clock())


def arena_of(rows: Sequence[Prefilled]) -> SharedArena:
    assert isinstance(rows[0].arena, SharedRow)
    return rows[0].arena.arena


def noted(reply: Reply) -> bool:
    """Whether the trace says that the prompt was answered by itself."""
    return any("answered by itself" in line for line in reply.trace.warnings)


def check_same(together: Reply, alone: Reply) -> None:
    assert together.token_ids == alone.token_ids
    assert (together.text, together.finish_reason) == (alone.text, alone.finish_reason)
    assert together.usage.input_tokens == alone.usage.input_tokens


@dataclass(frozen=True)
class FirstTwo(Modular):
    """Computes the first two tokens, and one in the middle, of each module that is not exact."""

    def recomputed(self, layout: Layout, records: object, check: object) -> list[int]:
        del records, check
        moved = [piece for piece in layout.reusable if not piece.exact]
        return [
            place
            for piece in moved
            for place in {piece.start, piece.start + 1, piece.start + len(piece.ids) // 2}
        ]


# The oracle.


@pytest.mark.parametrize("family", TOGETHER)
def test_each_row_has_the_logits_of_its_prompt_alone(family: str) -> None:
    cache = engine(family)
    for policy in (Modular(), Exact(), NoReuse()):
        for row in prefilled(cache, CHATS, policy):
            expected = (
                modular_logits(cache.model, row.layout, row.layout.reusable)
                if isinstance(policy, Modular)
                else plain_logits(cache.model, row.layout.ids)
            )
            assert torch.allclose(row.logits[0], expected, atol=1e-4)


@pytest.mark.parametrize("family", ["llama", "cohere", "gpt_neox"])
def test_a_module_is_lent_in_parts_where_tokens_of_it_are_computed_again(family: str) -> None:
    cache = engine(family)
    prefilled(cache, CHATS, Modular())
    for row, chat in zip(prefilled(cache, CHATS, FirstTwo()), CHATS, strict=True):
        segments = cache._prompts.from_messages(chat, cache._shelf.recognise)
        alone = cache._pipeline.run(segments, FirstTwo(), Clock(), room=2)
        assert row.usage == alone.usage
        assert torch.allclose(row.logits, alone.logits, atol=1e-4)


@pytest.mark.parametrize("family", TOGETHER)
def test_answers_are_those_of_the_prompts_one_after_another(family: str) -> None:
    options = {"max_new_tokens": 12, "repetition_penalty": 1.2, "temperature": 0}
    alone = [engine(family).generate_messages(chat, **options) for chat in CHATS]
    replies = engine(family).batch_messages(CHATS, **options)
    for reply, expected in zip(replies, alone, strict=True):
        check_same(reply, expected)
        assert not noted(reply)


@pytest.mark.parametrize("family", ALONE)
def test_where_rows_cannot_share_prompts_are_answered_one_by_one_and_the_traces_say_so(
    family: str,
) -> None:
    reuse = Exact() if family in REFUSED else Modular()
    one, other = (engine(family, reuse=reuse) for _ in range(2))
    replies = other.batch_messages(CHATS, max_new_tokens=4)
    for reply, chat in zip(replies, CHATS, strict=True):
        check_same(reply, one.generate_messages(chat, max_new_tokens=4))
        assert noted(reply)


def test_no_reuse_continues_as_plain_transformers_does() -> None:
    cache = engine()
    options = {"max_new_tokens": 24, "do_sample": False, "repetition_penalty": 1.0}
    replies = cache.batch_messages(CHATS, reuse=NoReuse(), **options)
    for reply, row in zip(replies, prefilled(cache, CHATS, NoReuse()), strict=True):
        ids = torch.tensor([row.layout.ids])
        whole = cache.model.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert list(reply.token_ids) == whole[0, ids.shape[1] :].tolist()
        assert reply.usage.reused_tokens == 0


def test_rows_within_a_window_go_together_and_longer_ones_alone() -> None:
    cache = PromptCache(model("mistral_windowed"), byte_tokenizer())
    short, shorter, long = cache.batch_text(["ab", "c", "a longer one"], max_new_tokens=3)
    assert [noted(reply) for reply in (short, shorter, long)] == [False, False, True]
    for text, reply in (("ab", short), ("c", shorter), ("a longer one", long)):
        check_same(reply, cache.generate_text(text, max_new_tokens=3))


def test_in_bfloat16_the_first_tokens_are_the_references_unless_two_are_as_likely() -> None:
    cache = engine("llama", torch.bfloat16)
    compared = 0
    for row in prefilled(cache, CHATS, Modular()):
        expected = modular_logits(cache.model, row.layout, row.layout.reusable).float()
        best, second = expected.topk(2).values
        if best - second > 0.05:
            assert int(row.logits[0].argmax()) == int(expected.argmax())
            compared += 1
    assert compared


# What a request may ask for.


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": True, "seed": 3, "temperature": 1.0},
        {"top_k": 5, "seed": 1, "reuse": Exact()},
        {"stop": ["a", "e", "</"], "min_new_tokens": 3},
        {"no_repeat_ngram_size": 2, "reuse": NoReuse()},
        {"suppress_tokens": list(range(7, 200)), "temperature": 0},
    ],
)
def test_options_do_to_each_row_what_they_do_to_one(options: dict[str, Any]) -> None:
    one, other = engine(), engine()
    asked = {"max_new_tokens": 14, **options}
    replies = other.batch_messages(CHATS, **asked)
    for reply, chat in zip(replies, CHATS, strict=True):
        check_same(reply, one.generate_messages(chat, **asked))


def test_rows_end_each_at_its_own_token_and_the_others_go_on() -> None:
    cache = engine()
    ends = [
        reply.token_ids[i % 6]
        for i, reply in enumerate(cache.batch_messages(CHATS, max_new_tokens=8, temperature=0))
    ]
    asked = {"max_new_tokens": 8, "temperature": 0, "eos_token_id": ends[:3]}
    replies = cache.batch_messages(CHATS, **asked)
    for reply, chat in zip(replies, CHATS, strict=True):
        check_same(reply, cache.generate_messages(chat, **asked))
    assert len({len(reply.token_ids) for reply in replies}) > 1


def test_a_criterion_of_the_users_ends_one_row_alone() -> None:
    cache = engine()
    lengths = [len(row.layout.ids) for row in prefilled(cache, CHATS, Modular())]
    short = min(lengths)

    def criterion(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return torch.tensor([ids.shape[1] == short + 3])

    replies = cache.batch_messages(
        CHATS, max_new_tokens=9, min_new_tokens=9, stopping_criteria=[criterion]
    )
    counts = [len(reply.token_ids) for reply in replies]
    assert set(counts) == {3, 9}
    assert counts.count(3) == lengths.count(short)


def test_a_streamer_hears_one_answer_after_the_other() -> None:
    class Heard(list[list[int]]):
        def put(self, ids: torch.Tensor) -> None:
            self.append(ids.flatten().tolist())

        def end(self) -> None:
            self.append([])

    alone, together = Heard(), Heard()
    cache = engine()
    for chat in CHATS[:2]:
        cache.generate_messages(chat, max_new_tokens=3, streamer=alone)
    replies = cache.batch_messages(CHATS[:2], max_new_tokens=3, streamer=together)
    assert together == alone
    assert all(map(noted, replies))


def test_pml_and_texts_and_no_prompts_at_all() -> None:
    cache = engine()
    cache.add_schema(
        '<schema name="s"><system>Be brief.</system><user><module name="a">One thing.</module>'
        '<module name="b">Another <param name="p" len="6"/>.</module></user></schema>'
    )
    prompts = ['<prompt schema="s"><a/>So?</prompt>', '<prompt schema="s"><b p="c"/><a/>?</prompt>']
    for reply, prompt in zip(cache.batch(prompts, max_new_tokens=5), prompts, strict=True):
        check_same(reply, cache.generate(prompt, max_new_tokens=5))
    texts = [f"{DOCUMENTS[1]} {DOCUMENTS[0]} So", "Then"]
    for reply, text in zip(cache.batch_text(texts, max_new_tokens=5), texts, strict=True):
        check_same(reply, cache.generate_text(text, max_new_tokens=5))
    assert cache.batch([]) == cache.batch_text(()) == cache.batch_messages([]) == []


@pytest.mark.parametrize("reuse", [Modular(), Exact()])
def test_scaffolds_are_lent_as_modules_are(reuse: ReusePolicy) -> None:
    cache = engine("cohere")
    cache.add_schema(
        '<schema name="s"><user><module name="a">One thing.</module><module name="b">Another '
        '<param name="p" len="6"/>.</module><module name="c">A third.</module></user>'
        '<scaffold name="both" modules="a b"/></schema>'
    )
    imports = ['<a/><b p="c"/><c/>', '<c/><a/><b p="def"/>', '<b p="g"/><a/>']
    prompts = [f'<prompt schema="s">{each}So?</prompt>' for each in imports]
    replies = cache.batch(prompts, max_new_tokens=5, reuse=reuse)
    for reply, prompt in zip(replies, prompts, strict=True):
        check_same(reply, cache.generate(prompt, max_new_tokens=5, reuse=reuse))


def test_more_prompts_than_fit_one_forward_are_answered_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("promptcache.answering.ROWS", 4)
    monkeypatch.setattr("promptcache.batching.PREFILLED", 60)
    cache = engine()
    chats = [*CHATS, *CHATS]
    replies = cache.batch_messages(chats, max_new_tokens=3, reuse=NoReuse())
    for reply, chat in zip(replies, chats, strict=True):
        check_same(reply, cache.generate_messages(chat, max_new_tokens=3, reuse=NoReuse()))


# What a reply says.


def test_traces_and_usage_are_those_of_the_prompts_one_after_another() -> None:
    one, other = (engine(conversations=False) for _ in range(2))
    for _ in range(2):  # encoded for the first row that needs it, then found
        alone = [one.generate_messages(chat, max_new_tokens=3) for chat in CHATS]
        for reply, expected in zip(
            other.batch_messages(CHATS, max_new_tokens=3), alone, strict=True
        ):
            assert reply.trace == expected.trace
            assert reply.usage == expected.usage
            assert list(reply.timings) == list(Stage)
            assert 0 < sum(reply.timings.values()) <= reply.ttft + 1e-6


def test_a_recording_has_each_reply() -> None:
    cache = engine()
    with cache.recording() as heard:
        replies = cache.batch_messages(CHATS, max_new_tokens=2)
    assert list(heard) == replies


@pytest.mark.parametrize("family", ["llama", "glm4"])
def test_turns_are_recalled_and_kept(family: str) -> None:
    one, other = engine(family), engine(family)
    letters = {one.token_ids(chr(letter))[0] for letter in range(ord("a"), ord("z") + 1)}
    quiet = [i for i in range(one.model.config.vocab_size) if i not in letters]
    asked: dict[str, Any] = {"max_new_tokens": 6, "suppress_tokens": quiet, "temperature": 0}
    chats = [messages(0, 1), messages(2), messages(1, 0), [{"role": "user", "content": "Hello!"}]]
    ends = [0] * len(chats)
    for turn in range(3):
        alone = [one.generate_messages(chat, **asked) for chat in chats]
        replies = other.batch_messages(chats, **asked)
        for i, (reply, expected) in enumerate(zip(replies, alone, strict=True)):
            check_same(reply, expected)
            if turn:
                assert reply.usage.computed_tokens == reply.usage.input_tokens - ends[i]
            ends[i] = reply.usage.input_tokens + reply.usage.output_tokens - 1
            chats[i] = [
                *chats[i],
                {"role": "assistant", "content": reply.text},
                {"role": "user", "content": f"And {turn}?"},
            ]
    assert one.store.nbytes == other.store.nbytes


# What is held.


def test_a_module_is_the_stores_own_however_many_rows_use_it() -> None:
    cache = engine()
    cache.batch_messages(CHATS, max_new_tokens=1)
    keys = cache.store.keys()
    stored = [cache.store.get(key) for key in keys]
    for layer in range(len(cache.traits.layers)):
        memory = {
            tensor.untyped_storage().data_ptr()
            for kv in stored
            if kv is not None
            for tensor in (kv.keys[layer], kv.values[layer])
        }
        lent = arena_of(prefilled(cache, CHATS, Modular())).lent.states(layer)
        assert lent
        assert all(t.untyped_storage().data_ptr() in memory for pair in lent for t in pair)


def test_rows_hold_what_they_compute_and_nothing_of_their_modules() -> None:
    documents = {size: f"{'word ' * size}and no more." for size in (10, 100)}
    sizes = set()
    for text in documents.values():
        cache = PromptCache(model("llama"), byte_tokenizer())
        cache.cache_documents([text], progress=False)
        chats = [
            [{"role": "system", "content": f"Read.\n\n{text}"}, {"role": "user", "content": "So?"}]
        ] * 4
        rows = prefilled(cache, chats, Modular())
        computed = sum(row.usage.computed_tokens for row in prefilled(cache, chats, Modular()))
        room = sum(row.room for row in rows)
        arena = arena_of(rows)
        assert arena.nbytes == (computed + room) * cache.traits.token_bytes
        sizes.add(arena.nbytes)
    assert len(sizes) == 1


def test_modules_that_are_evicted_while_a_batch_is_answered_still_serve_it() -> None:
    cache = engine()
    expected = [reply.token_ids for reply in cache.batch_messages(CHATS, max_new_tokens=6)]

    def evicting(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        cache.store.evict()
        return torch.zeros(1, dtype=torch.bool)

    replies = cache.batch_messages(CHATS, max_new_tokens=6, stopping_criteria=[evicting])
    assert [reply.token_ids for reply in replies] == expected


# What goes wrong.


def test_an_error_in_a_prompt_says_which_and_comes_before_anything_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = engine()
    ran: list[object] = []
    monkeypatch.setattr(ModelRunner, "_run", lambda *_, **__: ran.append(_))
    with pytest.raises(PromptError, match=r"prompt 2 of 3: the prompt has 2000 tokens"):
        cache.batch_text(["a", "b" * 2000, "c"])
    with pytest.raises(PromptError, match="prompt 1 of 2: message 1 is a str"):
        cache.batch_messages([["hi"], CHATS[0]])  # type: ignore[list-item]
    cache.add_schema('<schema name="s"><user/></schema>', encode=False)
    with pytest.raises(PMLError, match="prompt 2 of 2: line 1") as raised:
        cache.batch(['<prompt schema="s">So?</prompt>', "<prompt"])
    assert raised.value.line == 1
    with pytest.raises(PromptError, match="the prompts are a str"):
        cache.batch_text("one text")
    with pytest.raises(OptionError, match="temprature"):
        cache.batch_text(["a", "b"], temprature=0.5)
    assert not ran


def test_a_row_that_fails_ends_the_others_too_and_the_next_batch_is_as_ever() -> None:
    cache = engine()
    expected = [reply.token_ids for reply in cache.batch_messages(CHATS, max_new_tokens=5)]
    calls = []

    def failing(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        calls.append(ids)
        if len(calls) == 9:
            raise ValueError("a criterion of the user's")
        return torch.zeros(1, dtype=torch.bool)

    with (
        cache.recording() as heard,
        pytest.raises(ValueError, match="a criterion of the user's"),
    ):
        cache.batch_messages(CHATS, max_new_tokens=5, stopping_criteria=[failing])
    assert all(0 < len(reply.token_ids) < 5 for reply in heard)
    assert [r.token_ids for r in cache.batch_messages(CHATS, max_new_tokens=5)] == expected


def test_out_of_memory_evicts_tries_again_and_then_says_how_much_was_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache = engine()
    expected = [reply.token_ids for reply in cache.batch_messages(CHATS, max_new_tokens=2)]
    tries = []

    def failing(*_: object, **__: object) -> None:
        tries.append(cache.store.nbytes)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("promptcache.batching.SharedArena", failing)
    with pytest.raises(OutOfMemoryError, match="no memory for 6 prompts of"):
        cache.batch_messages(CHATS, max_new_tokens=2)
    assert len(tries) == 2
    monkeypatch.undo()
    assert [r.token_ids for r in cache.batch_messages(CHATS, max_new_tokens=2)] == expected


def test_batches_beside_single_requests_in_many_threads() -> None:
    cache = engine()
    expected = [cache.generate_messages(chat, max_new_tokens=5).token_ids for chat in CHATS]
    cache.store.evict()

    def ask(number: int) -> bool:
        if number % 2:
            first = number % len(CHATS)
            turned = [*CHATS[first:], *CHATS[:first]]
            got = [reply.token_ids for reply in cache.batch_messages(turned, max_new_tokens=5)]
            return got == [*expected[first:], *expected[:first]]
        chat = number % len(CHATS)
        reply = cache.generate_messages(CHATS[chat], max_new_tokens=5)
        return reply.token_ids == expected[chat]

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(12)))


# Any batches, after any others.


@dataclass(frozen=True)
class Batch:
    """Prompts over some documents, each in some order."""

    orders: tuple[tuple[int, ...], ...]
    questions: tuple[str, ...]
    policy: ReusePolicy
    evict: bool

    @property
    def chats(self) -> Chats:
        return [
            messages(*order, question=self.questions[i % len(self.questions)])
            for i, order in enumerate(self.orders)
        ]


BATCHES = st.lists(
    st.builds(
        Batch,
        st.lists(
            st.lists(st.integers(0, 5), max_size=4).map(tuple), min_size=2, max_size=5
        ).map(tuple),
        st.lists(
            st.sampled_from(["Which?", "Who said <|user|> so?", "Why " * 9]), min_size=1, max_size=3
        ).map(tuple),
        st.sampled_from([Modular(), Modular(), FirstTwo(), Exact(), NoReuse()]),
        st.sampled_from([False, False, True]),
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip
QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def run_batches(family: str, batches: Sequence[Batch]) -> None:
    cache = engine(family, store=MemoryStore(60_000))
    for batch in batches:
        if batch.evict:
            cache.store.evict()
        if family in TOGETHER:
            for row in prefilled(cache, batch.chats, batch.policy):
                reused = row.served.reused
                if type(batch.policy) is Modular:
                    expected = modular_logits(cache.model, row.layout, reused)
                elif isinstance(batch.policy, Modular):
                    continue
                else:
                    expected = plain_logits(cache.model, row.layout.ids)
                assert torch.allclose(row.logits[0], expected, atol=1e-4), batch
        asked: dict[str, Any] = {"max_new_tokens": 4, "reuse": batch.policy, "temperature": 0}
        replies = cache.batch_messages(batch.chats, **asked)
        for reply, chat in zip(replies, batch.chats, strict=True):
            check_same(reply, cache.generate_messages(chat, **asked))
        cache.store.check_integrity()


@settings(max_examples=40, deadline=None, suppress_health_check=QUIET,
          phases=[Phase.explicit, Phase.reuse, Phase.generate], derandomize=True)  # fmt: skip
@given(family=st.sampled_from(sorted(FAMILIES)), batches=BATCHES)
def test_answers_never_depend_on_who_else_is_asked(family: str, batches: list[Batch]) -> None:
    run_batches(family, batches)


@pytest.mark.stress
@settings(max_examples=2_000, deadline=None, suppress_health_check=QUIET)
@given(family=st.sampled_from(sorted(FAMILIES)), batches=BATCHES)
def test_answers_never_depend_on_who_else_is_asked_in_thousands_of_batches(
    family: str, batches: list[Batch]
) -> None:
    run_batches(family, batches)
