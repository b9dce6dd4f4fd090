"""Compute the beginning of each module again, where it does not stand as it was encoded."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun
from promptcache.reuse.policy import Check, ReusePolicy


@dataclass(frozen=True, slots=True)
class FirstK(ReusePolicy):
    """Compute the first `k` tokens of each module again (LegoLink: Hu et al., EPIC, 2024).

    A module that was encoded apart treats its first tokens as the beginning of everything, and
    later tokens attend to them far too much. Modules whose states are exact are left as they are.
    Raises OptionError for a `k` that is no positive number of tokens.
    """

    k: int = 16

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise OptionError(f"k={self.k!r}: FirstK takes a number of tokens, 1 or more")

    def recomputed(
        self, layout: Layout, records: Mapping[ModuleRun, KV], check: Check
    ) -> Collection[int]:
        """The positions of these tokens, parameters' arguments aside, which are new anyway."""
        del records, check
        return [
            piece.start + place
            for piece in self.reused(layout)
            if not piece.exact
            for place in range(min(self.k - piece.offset, len(piece.ids)))
        ]
