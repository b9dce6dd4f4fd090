"""Prompts that are served together: prefilled side by side, answered in lockstep.

What they reuse is looked up once, and modules that several use are lent to all, not moved. Each
row's tokens are chosen as if it were alone; only the model is run over those of all at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from promptcache.clock import Clock
from promptcache.library import ModuleLibrary
from promptcache.memory import surviving_out_of_memory
from promptcache.model.lending import Lending
from promptcache.model.runner import ModelRunner, Traits
from promptcache.model.shared import SharedArena, SharedRow
from promptcache.model.together import longest_row, refusal
from promptcache.pipeline import Pipeline, Prefilled
from promptcache.planning import Laid, Plan
from promptcache.reply import Stage

PREFILLED = 4096
"""Tokens that one forward computes at most, unless one prompt alone has more."""
ROWS = 32
"""Prompts that are served together at most."""


class Lockstep:
    """The rows of one batch while their answers grow: one forward for the next token of all."""

    def __init__(self, runner: ModelRunner, traits: Traits, arena: SharedArena) -> None:
        self._runner = runner
        self._traits = traits
        self._arena = arena
        self._chosen: dict[int, tuple[int, int]] = {}
        self._logits: dict[int, Tensor] = {}

    def row(self, number: int) -> RowFollowing:
        """What runs the model over one row's answer."""
        return RowFollowing(self, number)

    def chose(self, row: int, token: int, position: int) -> None:
        """Take in a token after which the row goes on."""
        self._chosen[row] = token, position

    def leave(self, row: int) -> None:
        """Run the model over nothing more of this row."""
        self._chosen.pop(row, None)
        self._logits.pop(row, None)

    def logits(self, row: int) -> Tensor:
        """The logits `[1, vocabulary]` of the row's last token.

        Whoever asks first has those of all rows computed, whose tokens have been chosen by then.
        """
        if row not in self._logits:
            rows = sorted(self._chosen)
            chosen = [self._chosen.pop(number) for number in rows]
            logits = self._runner.forward_rows(
                [[token] for token, _ in chosen],
                [(number, [place]) for number, (_, place) in zip(rows, chosen, strict=True)],
                self._arena,
                attention=self._traits.attention,
            )
            self._logits.update({number: logits[i : i + 1] for i, number in enumerate(rows)})
        return self._logits.pop(row)


class RowFollowing:
    """Runs the model over the answer of one row, when the others are as far."""

    def __init__(self, lockstep: Lockstep, row: int) -> None:
        self._lockstep = lockstep
        self._row = row

    def chose(self, token: int, position: int, *, last: bool) -> None:
        """Take in a token that was chosen."""
        if not last:
            self._lockstep.chose(self._row, token, position)

    def logits(self) -> Tensor:
        """The logits `[1, vocabulary]` of the token that was taken in last."""
        return self._lockstep.logits(self._row)

    def leave(self) -> None:
        """Let the others go on without this row."""
        self._lockstep.leave(self._row)


class Batching:
    """Prompts of one model, served together where the model and their lengths allow it."""

    def __init__(
        self, runner: ModelRunner, traits: Traits, pipeline: Pipeline, library: ModuleLibrary
    ) -> None:
        self._runner = runner
        self._traits = traits
        self._pipeline = pipeline
        self._library = library
        self._longest = longest_row(runner.model)
        self._tried: tuple[str | None] | None = None

    def reason_against(self, laid: Laid) -> str | None:
        """Why a prompt has to be answered by itself; None where it can be together with others."""
        if self._tried is None:
            self._tried = (refusal(self._runner, self._traits),)
        if self._tried[0] is not None:
            return self._tried[0]
        movement = self._traits.movement
        if movement.limit is not None and laid.tokens > movement.limit:
            return f"with {laid.tokens} tokens {movement.limited_by} changes with the length"
        if self._longest is not None and laid.tokens > self._longest:
            window = self._longest + 1
            return f"layers of the model see {window} tokens; here are up to {laid.tokens}"
        return None

    def prefill(self, prompts: Sequence[Laid], clock: Clock) -> list[Prefilled]:
        """Prompts with one policy, prefilled together.

        Raises OutOfMemoryError when memory runs out even after everything evictable was evicted.
        """
        tokens = sum(len(laid.layout.ids) for laid in prompts)
        room = sum(laid.room for laid in prompts)
        return surviving_out_of_memory(
            lambda: self._prefilled(prompts, clock),
            self._library.store,
            f"{len(prompts)} prompts of {tokens} tokens in all and their answers of {room} "
            f"({(tokens + room) * self._traits.token_bytes:,} bytes of attention states, less "
            "what they share)",
        )

    def _prefilled(self, prompts: Sequence[Laid], clock: Clock) -> list[Prefilled]:
        plans = self._pipeline.plans(prompts, prompts[0].policy, clock)
        lendings = [Lending(p.served.reused, p.states, p.served.missing) for p in plans]
        rows = [
            lending.row(len(plan.laid.layout.ids), plan.laid.room)
            for lending, plan in zip(lendings, plans, strict=True)
        ]
        rotations = self._traits.movement.rotations
        arena = SharedArena(self._traits.layers, rows, rotations)
        for number, (lending, plan) in enumerate(zip(lendings, plans, strict=True)):
            lending.write_copies(arena, number, rotations)
            if plan.earlier:
                arena.write_at(number, plan.earlier)
        clock.lap(Stage.ASSEMBLE)
        logits = torch.cat([self._computed(plans, some, arena) for some in _portions(plans)])
        clock.lap(Stage.PREFILL)
        lockstep = Lockstep(self._runner, self._traits, arena)
        return [
            self._pipeline.ready(
                plan, SharedRow(arena, row), logits[row : row + 1], lockstep.row(row)
            )
            for row, plan in enumerate(plans)
        ]

    def _computed(self, plans: Sequence[Plan], rows: Sequence[int], arena: SharedArena) -> Tensor:
        """Logits `[rows, vocabulary]` of the last tokens of these rows."""
        work = [(row, plans[row].positions) for row in rows]
        ids = [[plans[row].laid.layout.ids[place] for place in places] for row, places in work]
        return self._runner.forward_rows(ids, work, arena, attention=self._traits.attention)


def _portions(plans: Sequence[Plan]) -> Iterator[list[int]]:
    """Rows that one forward computes."""
    portion: list[int] = []
    tokens = 0
    for row, plan in enumerate(plans):
        if portion and tokens + len(plan.positions) > PREFILLED:
            yield portion
            portion, tokens = [], 0
        portion.append(row)
        tokens += len(plan.positions)
    yield portion
