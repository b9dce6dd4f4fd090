"""A prompt's way from segments to the logits of its last token: one way through, no going back.

Layout, look-up, assembly, prefill, each timed. Knows nothing about markup, templates or sampling.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from torch import Tensor

from promptcache.account import Served, trace_of
from promptcache.clock import Clock
from promptcache.conversations import Conversations, Recalled, parting
from promptcache.errors import UnsupportedModelError
from promptcache.joining import merged
from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece, lay_out
from promptcache.library import ModuleLibrary
from promptcache.memory import is_out_of_memory, surviving_out_of_memory
from promptcache.model.arena import Arena
from promptcache.model.owncache import OwnCache
from promptcache.model.prefill import assemble, positions_to_compute, prefill
from promptcache.model.runner import ModelRunner, Traits, new_arena
from promptcache.reply import Stage, Usage
from promptcache.reuse import ReusePolicy
from promptcache.room import room_for, shortage
from promptcache.segments import Kind, Segment
from promptcache.text.tokenize import SegmentTokenizer
from promptcache.trace import Trace

Notes = Callable[[], Iterable[str]]
log = logging.getLogger("promptcache")


@dataclass(frozen=True)
class Prefilled:
    """A prompt whose attention states stand in an arena, ready to be decoded.

    `logits` is `[1, vocabulary]`. `room` is how many tokens the answer may have. The account of
    where its tokens came from is made when it is asked for, which is after the first token.
    """

    layout: Layout
    arena: Arena | OwnCache
    logits: Tensor
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


class Pipeline:
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
    ) -> None:
        self._runner = runner
        self._traits = traits
        self._tokenizer = tokenizer
        self._library = library
        self._window = window
        self._conversations = Conversations(library) if conversations and traits.layers else None

    @property
    def longest(self) -> int | None:
        """The tokens that a prompt with modules can have; None where nothing limits them."""
        limits = [n for n in (self._window, self._traits.movement.limit) if n is not None]
        return min(limits, default=None)

    def layout(self, segments: Sequence[Segment], *, bare: bool = False) -> Layout:
        """The segments as tokens at positions; modules after BOS alone when `bare`."""
        tokens = self._tokenizer.tokenize(merged(segments))
        return lay_out(
            [item.segment for item in tokens],
            [item.ids for item in tokens],
            placeholder=self._tokenizer.placeholder_id,
            bare=self._tokenizer.bos_ids if bare else None,
        )

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
        """Everything up to the logits of the last token.

        An answer of `room` tokens is to follow; `window` is how many it and the prompt may have,
        where that is less than the model's own.
        `continues` says that the prompt holds an earlier answer: what keeps earlier turns from
        being reused is noted then. `notes` are asked for what else there is to say about the
        prompt, after the first token.

        Raises PromptError for a prompt that is empty or leaves no room in the model's window,
        UnsupportedModelError when the policy cannot be served, OutOfMemoryError when memory runs
        out even after everything evictable was evicted.
        """
        layout = self.layout(segments, bare=bare)
        left = room_for(len(layout.ids), room, self._window, window)
        self.check_policy(policy, len(layout.ids))
        clock.lap(Stage.LAYOUT)

        def said() -> tuple[str, ...]:
            return (*notes(), *shortage(left, room))

        needed = (len(layout.ids) + left) * self._traits.token_bytes
        return surviving_out_of_memory(
            lambda: self._prefilled(layout, policy, clock, left, said, continues=continues),
            self._library.store,
            f"a prompt of {len(layout.ids)} tokens and an answer of {left} ({needed:,} bytes of "
            "attention states)",
        )

    def check_policy(self, policy: ReusePolicy, tokens: int = 0) -> None:
        """Raise UnsupportedModelError when `policy` cannot be served for so long a prompt."""
        movement = self._traits.movement
        name = type(policy).__name__
        if not policy.moves:
            return
        if movement.unmovable:
            raise UnsupportedModelError(
                f"{name} moves modules, but {movement.unmovable}. Use reuse=Exact(), which reuses "
                "what it can without moving it and is right for every model."
            )
        if movement.limit is not None and tokens > movement.limit:
            raise UnsupportedModelError(
                f"{name} moves modules, but this prompt has {tokens} tokens and beyond "
                f"{movement.limit} the model's {movement.limited_by} changes every earlier key. "
                "Use reuse=Exact() for this prompt, or a shorter one."
            )

    def _prefilled(
        self,
        layout: Layout,
        policy: ReusePolicy,
        clock: Clock,
        room: int,
        notes: Notes,
        *,
        continues: bool,
    ) -> Prefilled:
        reused, warnings = self._reused(layout, policy)
        memory = self._memory(layout, policy)
        owner = self._library.owner()
        records = self._library.fetch([piece.run for piece in reused if piece.run], policy, owner)
        states: Mapping[ModuleRun, KV] = {run: record.kv for run, record in records.items()}
        sources = {run: record.source for run, record in records.items()}
        again = policy.recomputed(layout, states)
        missing = positions_to_compute(layout, reused, again)
        origins, found = None, None
        if memory:
            origins = memory.origins(layout, reused, sources, again)
            found = memory.recall(owner, origins, missing[:-1])
        recalled, earlier = found or (None, None)
        at_hand = set(recalled.positions) if recalled else set()
        positions = [position for position in missing if position not in at_hand]
        clock.lap(Stage.LOOKUP)
        arena = new_arena(self._runner, self._traits, len(layout.ids) + room)
        assemble(arena, self._traits, reused, states)
        if earlier:
            assert isinstance(arena, Arena)
            arena.write_at(earlier)
        clock.lap(Stage.ASSEMBLE)
        logits = prefill(self._runner, self._traits, arena, layout, positions)
        clock.lap(Stage.PREFILL)
        served = Served(reused, sources, missing, recalled, origins, owner)

        def said() -> tuple[str, ...]:
            parted = self._parted(layout, served) if continues else ()
            return (*notes(), *warnings, *parted)

        return Prefilled(layout, arena, logits, room, served, said, self)

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
        limit = self._traits.movement.limit
        total = len(prefilled.layout.ids) + len(answer)
        if self._conversations is None or served.origins is None or not isinstance(arena, Arena):
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

    def _memory(self, layout: Layout, policy: ReusePolicy) -> Conversations | None:
        """Where earlier turns are looked for, unless policy or model rule that out."""
        limit = self._traits.movement.limit
        too_long = limit is not None and len(layout.ids) > limit
        return None if too_long or not policy.recalls else self._conversations

    def _reused(
        self, layout: Layout, policy: ReusePolicy
    ) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
        """The pieces that modules serve, and what there is to say about the others."""
        movement = self._traits.movement
        notes = tuple(p.note for p in layout.pieces if p.kind is Kind.ARGUMENT and p.note)
        if not self._traits.layers:
            return (), (*notes, f"nothing is reused: {movement.unmovable}")
        if movement.limit is not None and len(layout.ids) > movement.limit:
            why = f"the model's {movement.limited_by} changes every earlier key"
            return (), (*notes, f"nothing is reused: beyond {movement.limit} tokens {why}")
        return policy.reused(layout), notes


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
