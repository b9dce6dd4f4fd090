"""What of a prompt's attention states is at hand, and what is left to compute: its plan.

Layout, look-up, and the choice of the reuse policy, which may ask the model; nothing of the prompt
is computed for good yet. Knows nothing about markup, templates or sampling, nor in what the states
will stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from promptcache.account import Served
from promptcache.clock import Clock
from promptcache.conversations import Conversations
from promptcache.errors import UnsupportedModelError
from promptcache.expectations import Expectations
from promptcache.joining import merged
from promptcache.kv import KV
from promptcache.laying import lay_out
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.library import ModuleLibrary, Source
from promptcache.model.check import CheckPass
from promptcache.model.prefill import positions_to_compute
from promptcache.model.runner import ModelRunner, Traits
from promptcache.reply import Stage
from promptcache.reuse import ReusePolicy
from promptcache.room import room_for, shortage
from promptcache.segments import Kind, Segment
from promptcache.text.tokenize import SegmentTokenizer

Notes = Callable[[], Iterable[str]]


@dataclass(frozen=True, slots=True)
class Laid:
    """A prompt as tokens at positions, and what is asked of it.

    `room` is how many tokens the answer may have. `continues` says that the prompt holds an
    earlier answer. `notes` are asked for what there is to say about it, after the first token.
    """

    layout: Layout
    policy: ReusePolicy
    room: int
    notes: Notes
    continues: bool = False

    @property
    def tokens(self) -> int:
        """Of the prompt and its answer."""
        return len(self.layout.ids) + self.room


@dataclass(frozen=True, slots=True)
class Plan:
    """What a prompt takes from elsewhere, and the sorted `positions` that it has to compute.

    Holds attention states, so nothing that lives longer than the prefill may hold it: those of
    the modules, and those of an earlier turn, with their positions.
    """

    laid: Laid
    served: Served
    states: Mapping[ModuleRun, KV]
    earlier: KV | None
    positions: Sequence[int]
    warnings: tuple[str, ...] = ()


class Planner:
    """Lays prompts out and looks up what they reuse. Safe to use from several threads."""

    def __init__(
        self,
        runner: ModelRunner,
        traits: Traits,
        tokenizer: SegmentTokenizer,
        library: ModuleLibrary,
        window: int | None,
        conversations: Conversations | None,
    ) -> None:
        self._runner = runner
        self._traits = traits
        self._tokenizer = tokenizer
        self._library = library
        self._window = window
        self._conversations = conversations
        self.expectations = Expectations(tokenizer.content_ids, self.longest)
        if traits.movement.unmovable:
            self.expectations.rule_out()

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
            longest=self._traits.movement.limit,
        )

    def lay(
        self,
        segments: Sequence[Segment],
        policy: ReusePolicy,
        *,
        room: int,
        window: int | None = None,
        bare: bool = False,
        continues: bool = False,
        notes: Notes = tuple,
    ) -> Laid:
        """The prompt laid out, with room for an answer of at most `room` tokens.

        `window` is how many tokens answer and prompt may have, where that is less than the
        model's own. Raises PromptError for a prompt that is empty or leaves no room in the
        model's window, UnsupportedModelError when the policy cannot be served.
        """
        layout = self.layout(segments, bare=bare)
        left = room_for(len(layout.ids), room, self._window, window)
        self.check_policy(policy, len(layout.ids))
        if policy.moves:
            layout = self.expectations.applied(layout)

        def said() -> tuple[str, ...]:
            return (*notes(), *shortage(left, room))

        return Laid(layout, policy, left, said, continues)

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
        policy.check_layers(len(self._traits.layers))

    def plans(self, prompts: Sequence[Laid], policy: ReusePolicy, clock: Clock) -> list[Plan]:
        """A plan for each of some prompts with one policy; what several miss is encoded once.

        Encoding counts for the first prompt that waits for it.
        """
        wanted = [self._reused(laid) for laid in prompts]
        owner = self._library.owner()
        runs = dict.fromkeys(piece.run for reused, _ in wanted for piece in reused if piece.run)
        records = self._library.fetch(runs, policy, owner)
        states: Mapping[ModuleRun, KV] = {run: record.kv for run, record in records.items()}
        sources = {run: record.source for run, record in records.items()}
        plans = []
        for laid, (reused, warnings) in zip(prompts, wanted, strict=True):
            mine = {piece.run: sources[piece.run] for piece in reused if piece.run}
            plans.append(self._plan(laid, reused, warnings, states, mine, owner, clock))
            sources.update({run: self._encoded(source) for run, source in mine.items()})
        clock.lap(Stage.LOOKUP)
        return plans

    def _encoded(self, source: Source) -> Source:
        """The same source for a prompt that did not wait for it."""
        if not source.encoded:
            return source
        tier = self._library.store.tier if source.kept else source.tier
        return replace(source, tier=tier, encoded=False)

    def _plan(
        self,
        laid: Laid,
        reused: tuple[Piece, ...],
        warnings: tuple[str, ...],
        states: Mapping[ModuleRun, KV],
        sources: Mapping[ModuleRun, Source],
        owner: bytes,
        clock: Clock,
    ) -> Plan:
        layout, policy = laid.layout, laid.policy
        memory = self._memory(layout, policy)
        mine = {run: states[run] for run in sources}
        check = CheckPass(self._runner, self._traits, layout, mine)
        clock.lap(Stage.LOOKUP)
        again = policy.recomputed(layout, mine, check)
        clock.lap(Stage.CHECK)
        missing = positions_to_compute(layout, reused, again)
        origins, found = None, None
        if memory:
            origins = memory.origins(layout, reused, sources, again)
            found = memory.recall(owner, origins, missing[:-1])
        recalled, earlier = found or (None, None)
        at_hand = set(recalled.positions) if recalled else set()
        positions = [position for position in missing if position not in at_hand]
        lacking = _unranked(reused, mine, policy)
        served = Served(reused, sources, missing, recalled, origins, owner, check.work, lacking)
        return Plan(laid, served, mine, earlier, positions, warnings)

    def _memory(self, layout: Layout, policy: ReusePolicy) -> Conversations | None:
        """Where earlier turns are looked for, unless policy or model rule that out."""
        limit = self._traits.movement.limit
        too_long = limit is not None and len(layout.ids) > limit
        return None if too_long or not policy.recalls else self._conversations

    def _reused(self, laid: Laid) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
        """The pieces that modules serve, and what there is to say about the others."""
        layout, movement = laid.layout, self._traits.movement
        notes = tuple(p.note for p in layout.pieces if p.kind is Kind.ARGUMENT and p.note)
        if not self._traits.layers:
            return (), (*notes, f"nothing is reused: {movement.unmovable}")
        if movement.limit is not None and len(layout.ids) > movement.limit:
            why = f"the model's {movement.limited_by} changes every earlier key"
            return (), (*notes, f"nothing is reused: beyond {movement.limit} tokens {why}")
        reused, compression = laid.policy.reused(layout), self._library.compression
        if reused and compression and not laid.policy.moves:
            return (), (*notes, f"nothing is reused: what is kept as {compression} is not exact")
        return reused, notes


def _unranked(
    reused: Iterable[Piece], states: Mapping[ModuleRun, KV], policy: ReusePolicy
) -> tuple[ModuleRun, ...]:
    """The modules, exact ones aside, that lack a ranking which the policy reads."""
    needed = set(policy.later)
    runs = dict.fromkeys(piece.run for piece in reused if piece.run and not piece.exact)
    return tuple(run for run in runs if needed - states[run].side.keys())
