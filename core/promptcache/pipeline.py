"""A prompt's way from segments to the logits of its last token: one way through, no going back.

Layout, look-up, assembly, prefill, each timed. Knows nothing about markup, templates or sampling.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from promptcache.account import Served, trace_of
from promptcache.clock import Clock
from promptcache.conversations import Conversations, Recalled, States, parting
from promptcache.layout import Layout
from promptcache.library import ModuleLibrary
from promptcache.memory import is_out_of_memory, surviving_out_of_memory
from promptcache.model.decode import Following
from promptcache.model.overlap import joined
from promptcache.model.owncache import OwnCache
from promptcache.model.prefill import assemble
from promptcache.model.runner import ModelRunner, Traits, new_arena
from promptcache.model.steps import Growing, steps_of
from promptcache.planning import Laid, Notes, Plan, Planner
from promptcache.ranking import Ranking
from promptcache.reply import Stage, Usage
from promptcache.reuse import ReusePolicy
from promptcache.segments import Kind, Segment
from promptcache.text.tokenize import SegmentTokenizer
from promptcache.trace import Trace

log = logging.getLogger("promptcache")


@dataclass(frozen=True)
class Prefilled:
    """A prompt whose attention states stand in an arena, ready to be decoded.

    `logits` is `[1, vocabulary]`; `following` gives those after each further token. `room` is how
    many tokens the answer may have. The account of where its tokens came from is made when it is
    asked for, which is after the first token.
    """

    layout: Layout
    arena: States | OwnCache
    logits: Tensor
    following: Following
    room: int
    served: Served
    notes: Notes
    pipeline: Pipeline

    @cached_property
    def account(self) -> tuple[Trace, Usage]:
        """The provenance of every token, and its sums."""
        return self.pipeline.account(self)

    @property
    def usage(self) -> Usage:
        """The sums of the account."""
        return self.account[1]


class Pipeline(Planner):
    """The stages of a request on one model. Safe to use from several threads."""

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        tokenizer: SegmentTokenizer,
        library: ModuleLibrary,
        window: int | None,
        *,
        conversations: bool = True,
        continuous_batching: bool = False,
    ) -> None:
        memory = Conversations(library) if conversations and traits.layers else None
        super().__init__(runner, traits, tokenizer, library, window, memory)
        self.ranking = Ranking(library, tokenizer.content_ids, self.longest)
        self._steps = steps_of(runner.model) if continuous_batching else None

    def run(
        self,
        segments: Sequence[Segment],
        policy: ReusePolicy,
        clock: Clock,
        *,
        room: int,
        window: int | None = None,
        bare: bool = False,
        continues: bool = False,
        notes: Notes = tuple,
    ) -> Prefilled:
        """Everything up to the logits of the last token (see `lay` and `prefill`)."""
        laid = self.lay(
            segments,
            policy,
            room=room,
            window=window,
            bare=bare,
            continues=continues,
            notes=notes,
        )
        clock.lap(Stage.LAYOUT)
        return self.prefill(laid, clock)

    def prefill(self, laid: Laid, clock: Clock) -> Prefilled:
        """A prompt that was laid out, prefilled.

        Raises OutOfMemoryError when memory runs out even after everything evictable was evicted.
        """
        return surviving_out_of_memory(
            lambda: self._prefilled(laid, clock),
            self._library.store,
            f"a prompt of {len(laid.layout.ids)} tokens and an answer of {laid.room} "
            f"({laid.tokens * self._traits.token_bytes:,} bytes of attention states)",
        )

    def _prefilled(self, laid: Laid, clock: Clock) -> Prefilled:
        [plan] = self.plans([laid], laid.policy, clock)
        runner, traits = self._runner, self._traits
        arena = new_arena(runner, traits, laid.tokens)
        with joined(runner.lane):
            assemble(arena, traits, plan.served.reused, plan.states, plan.earlier, runner.lane)
            clock.lap(Stage.ASSEMBLE)
            growing = Growing(runner, traits, arena, self._steps)
            tokens = [laid.layout.ids[position] for position in plan.positions]
            logits = growing.prefill(tokens, plan.positions)
        clock.lap(Stage.PREFILL)
        return self.ready(plan, arena, logits, growing)

    def ready(
        self, plan: Plan, arena: States | OwnCache, logits: Tensor, following: Following
    ) -> Prefilled:
        """A prompt whose plan was carried out in `arena`."""
        laid, served, warnings = plan.laid, plan.served, plan.warnings

        def said() -> tuple[str, ...]:
            parted = self._parted(laid.layout, served) if laid.continues else ()
            names = {run.name for run in served.unranked}
            unranked = (laid.policy.unranked(names),) if names else ()
            return (*laid.notes(), *warnings, *unranked, *parted)

        return Prefilled(laid.layout, arena, logits, following, laid.room, served, said, self)

    def _parted(self, layout: Layout, served: Served) -> tuple[str, ...]:
        """What keeps earlier turns from being reused, where they were looked for."""
        recalled, origins = served.recalled, served.origins
        if origins is None or _goes_on(layout, recalled):
            return ()
        related = recalled if _is_related(layout, recalled) else None
        return (parting(related, origins, self._tokenizer.decode),)

    def account(self, prefilled: Prefilled) -> tuple[Trace, Usage]:
        """The provenance of every token of a prompt, and its sums."""
        decode, tier = self._tokenizer.decode, self._library.store.tier
        return trace_of(prefilled.layout, prefilled.served, decode, tier, tuple(prefilled.notes()))

    def keep(self, prefilled: Prefilled, answer: Sequence[int]) -> None:
        """Let later prompts that go on from this one and its answer reuse their states."""
        served, arena = prefilled.served, prefilled.arena
        self.ranking.later(served.unranked)
        limit = self._traits.movement.limit
        total = len(prefilled.layout.ids) + len(answer)
        if self._conversations is None or served.origins is None or isinstance(arena, OwnCache):
            return
        if limit is not None and total > limit:
            return
        try:
            self._conversations.keep(
                arena, served.owner, served.origins, answer, served.missing, served.recalled
            )
        except RuntimeError as error:  # the answer is there: it does without
            if not is_out_of_memory(error):
                raise
            log.warning("no memory to keep this turn of the conversation for later ones")


def _last_message(layout: Layout) -> int:
    """Where the last message begins."""
    last = 0
    for before, piece in pairwise(layout.pieces):
        if before.kind is Kind.CONTROL and piece.kind is not Kind.CONTROL:
            last = piece.start
    return last


def _goes_on(layout: Layout, recalled: Recalled | None) -> bool:
    """Whether a prompt parts from an earlier one in its last message only, or not at all."""
    return recalled is not None and (recalled.whole or recalled.agreed >= _last_message(layout))


def _is_related(layout: Layout, recalled: Recalled | None) -> bool:
    """Whether an earlier prompt is likely of the same conversation: half of its turns agree."""
    return recalled is not None and 2 * recalled.agreed >= _last_message(layout)
