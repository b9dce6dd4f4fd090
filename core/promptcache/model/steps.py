"""Steps: requests that run at once are computed together, one forward for the next tokens of each.

Every request has a thread of its own, which chooses its tokens as if it were alone; when it asks
for logits, whoever asks first runs the model for all who ask by then. So answers join and leave at
any token, and what else they ask for, or whose they are, is no matter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import accumulate
from threading import Condition, Lock
from time import perf_counter
from weakref import WeakKeyDictionary, WeakSet

import torch
from torch import Tensor
from transformers import PreTrainedModel

from promptcache.model import attention
from promptcache.model.abreast import Abreast
from promptcache.model.arena import Arena
from promptcache.model.owncache import OwnCache
from promptcache.model.runner import ModelRunner, Traits
from promptcache.model.together import longest_row, refusal

log = logging.getLogger("promptcache")

ROWS = 32
"""Requests that one forward computes at most."""
TOKENS = 256
"""Tokens that one forward of several requests computes at most."""
SHORT = 64
"""Tokens of a prefill that shares its forward; one of more gains nothing by that."""
PATIENCE = 0.5
"""How long those who ask wait for the others of the last step: this share of what it took."""
AT_LEAST = 0.005
"""Seconds that they wait in any case: as long as it takes some threads to choose a token each."""


class Growing:
    """Runs the model over one prompt and its answer: together with others, where that helps."""

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        arena: Arena | OwnCache,
        steps: Steps | None = None,
    ) -> None:
        """Together with the others of `steps`; without, each forward is for this one alone."""
        self.runner = runner
        self.traits = traits
        self.arena = arena
        self.tokens: Sequence[int] = ()
        self.positions: Sequence[int] = ()
        self.answered = False
        self.given: Tensor | None = None
        """The logits that a step of several has for it."""
        self._steps = steps

    def prefill(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Compute tokens at sorted positions; the logits `[1, vocabulary]` of the last."""
        self.tokens, self.positions = tokens, positions
        return self.logits() if len(tokens) <= SHORT else self.alone()

    def chose(self, token: int, position: int, *, last: bool) -> None:
        """Take in a token that was chosen."""
        self.tokens, self.positions = (token,), (position,)
        if last:
            self.leave()

    def logits(self) -> Tensor:
        """The logits `[1, vocabulary]` of the token that was taken in last."""
        if self._steps is not None and self._steps.can_join(self):
            self._steps.wait_for(self)
            if self.given is not None:
                logits, self.given = self.given, None
                return logits
        return self.alone()

    def alone(self) -> Tensor:
        """The same, by a forward for this request alone."""
        ids = torch.tensor([[*self.tokens]])
        return self.runner.forward(ids, self.positions, self.arena, attention=self.traits.attention)

    def leave(self) -> None:
        """Let nobody wait for this answer."""
        if self._steps is not None:
            self._steps.leave(self)


class Steps:
    """The steps of all requests to one model. Safe to use from several threads."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._longest = longest_row(model)
        self._refused: bool | None = None
        self._changed = Condition()
        self._asking: list[Growing] = []
        self._expected: WeakSet[Growing] = WeakSet()
        self._running = False
        self._took = 0.0

    def can_join(self, request: Growing) -> bool:
        """Whether a request can be computed together with others of this model."""
        arena, movement = request.arena, request.traits.movement
        if self._refused or not isinstance(arena, Arena) or request.runner.static is not None:
            return False
        limits = [limit for limit in (self._longest, movement.limit) if limit is not None]
        ours = request.traits.attention == attention.NAME
        return ours and arena.capacity <= min(limits, default=arena.capacity)

    def leave(self, request: Growing) -> None:
        """Wait for this request no longer."""
        with self._changed:
            self._expected.discard(request)
            self._changed.notify_all()

    def wait_for(self, request: Growing) -> None:
        """Have the request's tokens computed, by this thread or another one.

        Its logits are `given` then, unless the step failed: then each request is on its own.
        """
        with self._changed:
            request.answered = False
            self._expected.discard(request)
            self._asking.append(request)
            self._changed.notify_all()
        try:
            while (some := self._turn(request)) is not None:
                self._step(some)
        except BaseException:  # such as KeyboardInterrupt
            self._withdraw(request)
            raise

    def _turn(self, request: Growing) -> list[Growing] | None:
        """Those whose tokens this thread is to compute now; None when `request` has its logits."""
        with self._changed:
            self._changed.wait_for(lambda: request.answered or not self._running)
            if request.answered:
                return None
            self._running = True
            try:
                patience = max(AT_LEAST, PATIENCE * self._took)
                self._changed.wait_for(lambda: not self._expected, patience)
            except BaseException:
                self._running = False
                raise
            self._expected.clear()
            count = len([*_together(self._asking)])
            some, self._asking = self._asking[:count], self._asking[count:]
            return some

    def _step(self, some: Sequence[Growing]) -> None:
        began = perf_counter()
        try:
            self._compute(some)
        except Exception as error:
            # Each computes its tokens alone then: what is its own fault is raised there.
            log.info("a step of %d requests failed, each goes on alone: %s", len(some), error)
            for request in some:
                request.given = None
        finally:
            with self._changed:
                for request in some:
                    request.answered = True
                self._expected.update(some)
                self._running = False
                self._took = perf_counter() - began
                self._changed.notify_all()

    def _compute(self, some: Sequence[Growing]) -> None:
        first = some[0]
        if len(some) == 1:
            first.given = first.alone()
            return
        if self._refused is None:
            self._refused = refusal(first.runner, first.traits) is not None
        if self._refused:
            return
        logits = first.runner.forward_rows(
            [request.tokens for request in some],
            [(number, request.positions) for number, request in enumerate(some)],
            Abreast([_arena(request) for request in some]),
            attention=first.traits.attention,
        )
        for number, request in enumerate(some):
            request.given = logits[number : number + 1]

    def _withdraw(self, request: Growing) -> None:
        """Ask for this request no longer; a step that computes it comes to its end before."""
        with self._changed:
            if request in self._asking:
                self._asking.remove(request)
            else:
                self._changed.wait_for(lambda: request.answered)
            self._expected.discard(request)
            self._changed.notify_all()


_steps: WeakKeyDictionary[PreTrainedModel, Steps] = WeakKeyDictionary()
_steps_lock = Lock()


def steps_of(model: PreTrainedModel) -> Steps:
    """The steps of a model: one for all engines that serve it."""
    with _steps_lock:
        if model not in _steps:
            _steps[model] = Steps(model)
        return _steps[model]


def _together(asking: Sequence[Growing]) -> Iterator[Growing]:
    """Those of them, from the first one on, that one forward computes."""
    totals = accumulate(len(request.tokens) for request in asking)
    for number, (request, total) in enumerate(zip(asking, totals, strict=True)):
        if number and (number == ROWS or total > TOKENS):
            return
        yield request


def _arena(request: Growing) -> Arena:
    assert isinstance(request.arena, Arena)
    return request.arena
