"""`max_concurrent`: how many requests are answered at once, and who waits."""

from __future__ import annotations

import gc
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Lock

import pytest

from promptcache import PromptCache, Stream
from promptcache.errors import OptionError
from promptcache.turns import Turns
from support.library import messages
from support.words import byte_tokenizer
from support.zoo import model

PATIENCE = 60
"""Seconds after which whoever still waits is taken to wait for ever."""
MOMENT = 0.2
"""Seconds in which what need not wait is done."""


def engine(most: int | None) -> PromptCache:
    return PromptCache(model("llama"), byte_tokenizer(), max_concurrent=most)


def stream(cache: PromptCache, *documents: int) -> Stream:
    return cache.stream_messages(messages(*documents), max_new_tokens=4)


def asked_aside(pool: ThreadPoolExecutor, cache: PromptCache) -> Future[Stream]:
    """A stream that is asked for in another thread, and has had time to come."""
    future = pool.submit(stream, cache, 1, 2)
    with pytest.raises(TimeoutError):
        future.result(MOMENT)
    return future


def test_a_request_waits_for_a_stream_to_end_to_be_closed_or_to_be_dropped() -> None:
    cache = engine(1)
    with ThreadPoolExecutor(1) as pool:
        first = stream(cache, 1, 2)
        waiting = asked_aside(pool, cache)
        text = "".join(first)
        second = waiting.result(PATIENCE)
        assert first.reply.text == text
        waiting = asked_aside(pool, cache)
        second.close()
        third: list[Stream] = [waiting.result(PATIENCE)]
        del waiting
        waiting = asked_aside(pool, cache)
        third.clear()
        gc.collect()
        with waiting.result(PATIENCE) as last:
            assert "".join(last) == text


def test_answers_are_those_of_one_by_one_and_no_more_run_than_may(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cache, alone = engine(2), engine(None)
    lock, running, most = Lock(), set[int](), list[int]()
    prefill, stop = cache._pipeline.prefill, Stream._stop

    def counted(laid: object, clock: object) -> object:
        found = prefill(laid, clock)  # type: ignore[arg-type]
        with lock:
            running.add(id(found))
            most.append(len(running))
        return found

    def stopped(self: Stream) -> None:
        with lock:
            running.discard(id(self._prefilled))
        stop(self)

    monkeypatch.setattr(cache._pipeline, "prefill", counted)
    monkeypatch.setattr(Stream, "_stop", stopped)
    orders = [(1, 2), (2, 1), (3,), (1, 3), (2,), (3, 2, 1), (1,), (2, 3)]
    with ThreadPoolExecutor(len(orders)) as pool:
        replies = list(pool.map(lambda order: "".join(stream(cache, *order)), orders))
    assert replies == ["".join(stream(alone, *order)) for order in orders]
    assert max(most) <= 2 and len(most) == len(orders) and not running


def test_a_batch_is_answered_in_parts_that_are_no_larger() -> None:
    chats = [messages(*order) for order in ((1, 2), (2,), (3, 1), (2, 1), (3,))]
    few = engine(2).batch_messages(chats, max_new_tokens=4)
    assert [r.text for r in few] == [
        r.text for r in engine(None).batch_messages(chats, max_new_tokens=4)
    ]


def test_a_request_that_fails_gives_its_turn_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = engine(1)
    with monkeypatch.context() as patched:
        patched.setattr(cache._pipeline, "prefill", _fails)
        with pytest.raises(RuntimeError, match="gone"):
            stream(cache, 1)
    with monkeypatch.context() as patched:
        patched.setattr(cache._pipeline, "keep", _fails)
        with pytest.raises(RuntimeError, match="gone"):
            list(stream(cache, 1))
    assert "".join(stream(cache, 2)) == "".join(stream(engine(None), 2))


def _fails(*_: object) -> None:
    raise RuntimeError("gone")


def test_who_came_first_is_served_first_however_many_turns_it_wants() -> None:
    turns, order = Turns(2), list[str]()
    first, started = turns.take(), Barrier(2)

    def wait(name: str, count: int) -> None:
        started.wait(PATIENCE)
        turn = turns.take(count)
        order.append(name)
        turn.end()
        turn.end()

    with ThreadPoolExecutor(2) as pool, ExitStack() as ending:
        ending.callback(first.end)
        both = pool.submit(wait, "both", 2)
        started.wait(PATIENCE)
        with pytest.raises(TimeoutError):
            both.result(MOMENT)
        one = pool.submit(wait, "one", 1)
        started.wait(PATIENCE)
        with pytest.raises(TimeoutError):  # there is room for it, and it came later
            one.result(MOMENT)
        first.end()
        both.result(PATIENCE), one.result(PATIENCE)
    assert order == ["both", "one"]


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "two"])
def test_a_number_that_makes_no_sense_is_refused(wrong: object) -> None:
    with pytest.raises(OptionError, match=r"max_concurrent=.*expected a number of 1 or more"):
        engine(wrong)  # type: ignore[arg-type]
