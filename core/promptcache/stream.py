"""An answer as it comes: an iterator of text that ends with a Reply."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from threading import RLock
from types import MappingProxyType
from typing import Any
from weakref import finalize

from transformers import PreTrainedModel

from promptcache.clock import Clock
from promptcache.model.decode import FinishReason, decode
from promptcache.model.runner import ModelRunner
from promptcache.pipeline import Prefilled
from promptcache.reply import Reply, Stage, Usage
from promptcache.text.callstream import CallStream
from promptcache.text.stream import TextStream
from promptcache.trace import Trace


class Stream(Iterator[str]):
    """The pieces of an answer's text, in order.

    The first token has been chosen when the stream is made, so errors in the prompt are raised
    there. `reply` is the finished Reply, or what there is so far. A stream that is closed, or that
    its reader leaves, stops the generation and gives its memory back.
    """

    def __init__(
        self,
        prefilled: Prefilled,
        clock: Clock,
        text: TextStream | CallStream,
        runner: ModelRunner,
        *,
        options: dict[str, Any],
        seed: int | None,
        model: str,
        policy: str,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """`ended` is called once, when the attention states were let go of."""
        self._ended = finalize(self, ended) if ended is not None else None
        self._prefilled: Prefilled | None = prefilled
        self._account: tuple[Trace, Usage] | None = None
        self._room = prefilled.room
        self._text = text
        self._ids: list[int] = []
        self._eos = False
        self._closed = False
        self._stepping = RLock()
        self._inside = False
        self._named = model, policy
        self._ends = end_tokens(runner.model, options)
        self._tokens: Generator[int, None, None] | None = decode(
            runner, prefilled.following, prefilled.layout.ids, prefilled.logits, options, seed
        )
        self._pending = self._next_text()
        clock.lap(Stage.SAMPLE)
        self._ttft = clock.total
        self._timings = MappingProxyType(dict(clock.stages))

    def __next__(self) -> str:
        with self._stepping:
            while self._pending == "" and not self._closed:
                self._pending = self._step()
            if self._closed:
                self._stop()
            if self._pending is None or self._closed:
                raise StopIteration
            piece, self._pending = self._pending, ""
            return piece

    def advance(self) -> None:
        """Take one token more, if there is one; its text is in the reply."""
        with self._stepping:
            if not self._closed:
                self._step()
            if self._closed:
                self._stop()

    def close(self) -> None:
        """Stop generating and let go of the attention states.

        Any thread may call it, and any callback of the generation, which ends with its step then.
        """
        self._closed = True
        with self._stepping:
            if not self._inside:
                self._stop()
                self._pending = None

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def finished(self) -> bool:
        """Whether the answer has come to its end."""
        return self._tokens is None

    @property
    def reply(self) -> Reply:
        """The answer so far, whole once the stream has ended."""
        trace, usage = self._account or self._present_account()
        ended = self._eos or self._text.met_stop or len(self._ids) < self._room
        reason: FinishReason = "stop" if ended else "length"
        return Reply(
            text=self._text.text,
            usage=replace(usage, output_tokens=len(self._ids)),
            trace=trace,
            ttft=self._ttft,
            timings=self._timings,
            finish_reason=reason,
            token_ids=tuple(self._ids),
            model=self._named[0],
            policy=self._named[1],
            tool_calls=self._text.calls,
            invalid_tool_calls=self._text.invalid,
        )

    def _step(self) -> str | None:
        """`_next_text`, or an error, which ends the answer."""
        self._inside = True
        try:
            return self._next_text()
        except BaseException:
            self._stop()
            raise
        finally:
            self._inside = False

    def _next_text(self) -> str | None:
        """The text that the next token makes certain; None when there is no more."""
        if self._tokens is None:
            return None
        token = next(self._tokens, None)
        if token is None:
            self._stop()
            return self._text.finish() or None
        self._ids.append(token)
        self._eos = token in self._ends
        piece = "" if self._eos else self._text.push(token)
        if self._text.met_stop:
            self._stop()
        return piece

    def _stop(self) -> None:
        """End the generation, and let go of the arena once its states are kept for later turns."""
        tokens, self._tokens = self._tokens, None
        if tokens is not None:
            tokens.close()
        if (prefilled := self._prefilled) is None:
            return
        self._account = prefilled.account
        self._prefilled = None
        try:
            if self._ids:
                prefilled.pipeline.keep(prefilled, self._ids)
        finally:
            del prefilled
            if self._ended is not None:
                self._ended()

    def _present_account(self) -> tuple[Trace, Usage]:
        """Where the prompt's tokens came from; worked out no earlier than somebody asks."""
        prefilled = self._prefilled
        account = prefilled.account if prefilled is not None else self._account
        assert account is not None
        return account


def end_tokens(model: PreTrainedModel, options: Mapping[str, Any]) -> frozenset[int]:
    """The ids that end an answer under these options."""
    given = options.get("eos_token_id", model.generation_config.eos_token_id)
    if given is None:
        return frozenset()
    return frozenset(given if isinstance(given, Sequence) else (given,))
