"""Threads, failures, memory, and what is no text at all."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Timer
from typing import Any

import pytest
import torch

from promptcache import (
    MemoryStore,
    PromptCache,
)
from promptcache.errors import OptionError, OutOfMemoryError, PromptError
from promptcache.kv import KV
from promptcache.model.arena import Arena
from promptcache.model.runner import ModelRunner
from support.library import DOCUMENTS, messages
from support.words import byte_tokenizer
from support.zoo import model


@pytest.fixture
def engine() -> PromptCache:
    cache = PromptCache(model("llama"), byte_tokenizer())
    cache.cache_documents(DOCUMENTS, progress=False)
    return cache


def test_a_closed_stream_stops_and_gives_its_memory_back(engine: PromptCache) -> None:
    stream = engine.stream_messages(messages(0, 1), max_new_tokens=200, min_new_tokens=200)
    arenas = [thing for thing in gc.get_objects() if type(thing) is Arena]
    held = [weakref.ref(arena) for arena in arenas]
    del arenas
    assert held
    next(stream)
    stream.close()
    gc.collect()
    assert stream.finished
    assert list(stream) == []
    assert len(stream.reply.token_ids) < 200
    assert all(arena() is None for arena in held)


def test_states_that_are_evicted_while_an_answer_comes_are_let_go(engine: PromptCache) -> None:
    stream = engine.stream_messages(messages(0, 1), max_new_tokens=50)
    states = [thing for thing in gc.get_objects() if type(thing) is KV]
    held = [weakref.ref(kv.keys[0]) for kv in states]
    del states
    assert held
    engine.store.evict()
    gc.collect()
    assert all(tensor() is None for tensor in held)
    stream.close()


def test_a_callback_of_the_generation_may_close_its_own_stream(engine: PromptCache) -> None:
    def close(ids: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        if ids.shape[1] > 2 + first:
            stream.close()
        return torch.zeros(1, dtype=torch.bool)

    first = 10**6
    stream = engine.stream_messages(messages(0), max_new_tokens=50, stopping_criteria=[close])
    first = stream.reply.usage.input_tokens
    list(stream)
    assert stream.finished
    assert len(stream.reply.token_ids) < 5


def test_an_error_in_the_middle_ends_the_answer_and_gives_its_memory_back(
    engine: PromptCache,
) -> None:
    class Failing:
        left = 4

        def put(self, _: torch.Tensor) -> None:
            self.left -= 1
            if not self.left:
                raise ValueError("the reader is gone")

        def end(self) -> None:
            pass

    stream = engine.stream_messages(messages(0), max_new_tokens=50, streamer=Failing())
    with pytest.raises(ValueError, match="the reader is gone"):
        list(stream)
    assert stream.finished
    assert list(stream) == []


def test_a_stream_may_be_closed_by_another_thread_while_it_is_read(engine: PromptCache) -> None:
    stream = engine.stream_messages(messages(0), max_new_tokens=900, min_new_tokens=900)
    timer = Timer(0.05, stream.close)
    timer.start()
    list(stream)
    timer.join()
    assert stream.finished
    assert 0 < len(stream.reply.token_ids) < 900


def test_answers_of_many_threads_equal_those_one_after_another(engine: PromptCache) -> None:
    orders = [(i % 6, (i + 2) % 6, (i + 3) % 6) for i in range(24)]

    def ask(order: tuple[int, ...]) -> tuple[int, ...]:
        return engine.generate_messages(messages(*order), max_new_tokens=6).token_ids

    expected = [ask(order) for order in orders]
    engine.store.evict()
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, orders)) == expected


def test_two_requests_for_one_missing_module_encode_it_once(
    engine: PromptCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []
    plain = ModelRunner.forward

    def counting(self: ModelRunner, ids: torch.Tensor, *args: object, **kwargs: object) -> object:
        if ids.shape[1] > 20:
            encoded.append(ids.shape[0])
        return plain(self, ids, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(ModelRunner, "forward", counting)
    barrier = Barrier(4)

    def ask(_: int) -> int:
        barrier.wait()
        return engine.generate_messages(messages(4), max_new_tokens=1).usage.input_tokens

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    assert sum(encoded) == 2  # the preamble and the document


def test_out_of_memory_evicts_tries_again_and_then_says_how_much_was_needed(
    engine: PromptCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = engine.generate_messages(messages(0, 1), max_new_tokens=1).token_ids
    tries = []

    def failing(*_: object, **__: object) -> None:
        tries.append(engine.store.nbytes)
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr("promptcache.model.steps.Growing.prefill", failing)
    with pytest.raises(OutOfMemoryError, match="bytes of attention states"):
        engine.generate_messages(messages(0, 1), max_new_tokens=1)
    assert len(tries) == 2
    monkeypatch.undo()
    assert engine.generate_messages(messages(0, 1), max_new_tokens=1).token_ids == before


def test_two_engines_on_one_model_leave_its_config_as_it_was() -> None:
    engines = [
        PromptCache(model("llama"), byte_tokenizer(), namespace=namespace) for namespace in "ab"
    ]
    before = model("llama").config._attn_implementation

    def ask(number: int) -> int:
        return engines[number % 2].generate_text("Hello", max_new_tokens=4).token_ids[0]

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(ask, range(40)))) == 1
    assert model("llama").config._attn_implementation == before


def test_a_store_that_fails_once_fails_one_request_only(engine: PromptCache) -> None:
    class Failing(MemoryStore):
        calls = 0

        def get(self, key: str) -> KV | None:
            self.calls += 1
            if self.calls == 2:
                raise OSError("the disk is on fire")
            return super().get(key)

    cache = PromptCache(model("llama"), byte_tokenizer(), store=Failing(10**8))
    cache.cache_documents(DOCUMENTS, progress=False)
    with pytest.raises(OSError, match="on fire"):
        cache.generate_messages(messages(0, 1), max_new_tokens=1)
    expected = engine.generate_messages(messages(0, 1), max_new_tokens=4).token_ids
    assert cache.generate_messages(messages(0, 1), max_new_tokens=4).token_ids == expected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: e.cache_documents("one text"), "the documents are a str"),
        (lambda e: e.cache_documents([3]), "a document is an int"),
        (lambda e: e.cache_documents(["\ud800"]), "lone surrogate"),
        (lambda e: e.cache_documents(None), "the documents are None"),
        (lambda e: e.forget_documents("one text"), "the documents are a str"),
        (lambda e: e.generate_messages("hi"), "the messages are a str"),
        (lambda e: e.generate_messages([("user", "hi")]), "message 1 is a tuple"),
        (
            lambda e: e.generate_messages([{"role": "user", "content": "x", "mood": "bad"}]),
            "'mood'",
        ),
        (lambda e: e.generate(None), "the prompt is None"),
        (lambda e: e.add_schema(None), "the schema is None"),
        (lambda e: e.count_tokens(None), "the text is None"),
    ],
)
def test_what_is_not_text_is_refused_in_one_sentence(
    engine: PromptCache, call: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        call(engine)


@pytest.mark.parametrize(
    "setting", [{"store": "nowhere://cache"}, {"store": 10**9}, {"namespace": None}]
)
def test_settings_that_are_not_what_they_must_be_are_refused(setting: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(setting))):
        PromptCache(model("llama"), byte_tokenizer(), **setting)
