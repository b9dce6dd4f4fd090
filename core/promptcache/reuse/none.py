"""The honest baseline: every token is computed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from promptcache.layout import Layout, Piece
from promptcache.reuse.policy import ReusePolicy


@dataclass(frozen=True, slots=True)
class NoReuse(ReusePolicy):
    """A full prefill on the very same tokens that the other policies see."""

    moves: ClassVar[bool] = False
    recalls: ClassVar[bool] = False

    def reused(self, layout: Layout) -> tuple[Piece, ...]:
        """Nothing."""
        del layout
        return ()
