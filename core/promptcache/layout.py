"""Where every token of a prompt stands, and which of them a module's attention states can serve.

Compact: a token's position is its place in the plain prompt. Nothing is reserved and no gaps are
left; modules are encoded at their context's end and moved to where the prompt puts them. Knows
tokens, not models, nor how they were laid out (see `laying`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from promptcache.segments import Kind


class ContextKind(StrEnum):
    """What a module attends to while it is encoded."""

    START = "start"
    """Nothing: the run stands at the very beginning, as a preamble does."""
    BARE = "bare"
    """The beginning-of-sequence token only, where the tokenizer has one."""
    PREAMBLE = "preamble"
    """Everything that stands before the first selectable module."""
    SCAFFOLD = "scaffold"
    """The preamble, or BOS, and the modules of its scaffold that stand before it."""
    EXPECTED = "expected"
    """The preamble and, each time it is encoded, another decoy or nothing: the mean is kept."""


@dataclass(frozen=True, slots=True)
class Context:
    """The tokens that a module attends to while it is encoded; `decoys` in turns, if any."""

    kind: ContextKind
    ids: tuple[int, ...] = ()
    decoys: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, slots=True)
class ModuleRun:
    """A module as it is encoded: its own tokens, in one run, after its context.

    A parameter's place is held by placeholder tokens; child modules are cut out. The modules of a
    scaffold are one run. The name is for people and does not identify the run.
    """

    ids: tuple[int, ...]
    context: Context
    name: str = field(default="", compare=False)

    @property
    def beginning(self) -> ModuleRun:
        """Its context as a run of its own."""
        return ModuleRun(self.context.ids, Context(ContextKind.START), "preamble")

    @property
    def identity(self) -> tuple[tuple[int, ...], ...]:
        """What its attention states depend on, given a model."""
        return self.context.ids, self.ids, *self.context.decoys


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens of a prompt with one origin.

    With a `run`, they are its tokens from `offset` on, and its attention states can stand in.
    `exact` says that those states equal a full prefill's: everything before them in the prompt is
    what stood before them when they were encoded. `module` is whose text they are, for people: a
    scaffold's run has those of several.
    """

    text: str
    kind: Kind
    ids: tuple[int, ...]
    start: int
    run: ModuleRun | None = None
    offset: int = 0
    exact: bool = False
    note: str | None = None
    module: str | None = None

    @property
    def stop(self) -> int:
        """The position after the last token."""
        return self.start + len(self.ids)


@dataclass(frozen=True, slots=True)
class Layout:
    """A prompt as tokens at positions 0, 1, 2, ..."""

    pieces: tuple[Piece, ...]
    ids: tuple[int, ...]

    @property
    def reusable(self) -> tuple[Piece, ...]:
        """The pieces that a module's attention states could serve."""
        return tuple(piece for piece in self.pieces if piece.run)

    @property
    def exact_prefix(self) -> int:
        """How many tokens from the beginning are reusable and exact without a gap."""
        end = 0
        for piece in self.pieces:
            if not (piece.run and piece.exact):
                break
            end = piece.stop
        return end
