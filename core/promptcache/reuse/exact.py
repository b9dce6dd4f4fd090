"""Reuse only what equals a full prefill: the longest prefix whose attention states are exact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from promptcache.layout import Layout, Piece
from promptcache.reuse.policy import ReusePolicy


@dataclass(frozen=True, slots=True)
class Exact(ReusePolicy):
    """Compute everything after the longest exact prefix. Its states never move."""

    moves: ClassVar[bool] = False

    def reused(self, layout: Layout) -> tuple[Piece, ...]:
        """The pieces of the exact prefix."""
        return tuple(piece for piece in layout.reusable if piece.stop <= layout.exact_prefix)
