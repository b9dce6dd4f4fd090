"""Spans of a prompt, and the words for where their attention states came from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Provenance(StrEnum):
    """Where a span's attention states came from."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    ENCODED = "encoded"
    RECOMPUTED = "recomputed"
    NEW = "new"

    @property
    def meaning(self) -> str:
        """One line on what the word says."""
        return _MEANINGS[self]


_MEANINGS = {
    Provenance.EXACT: "reused; equal to a full prefill's",
    Provenance.APPROXIMATE: "reused; encoded apart from what stands before it here",
    Provenance.ENCODED: "missing; encoded now",
    Provenance.RECOMPUTED: "part of a module; computed again",
    Provenance.NEW: "part of no module; computed",
}


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive prompt tokens of one origin.

    `recomputed` counts its tokens that were computed again although a module has them. `tier` and
    `key` say where its attention states were found; `note` gives the reason of a miss.
    """

    text: str
    tokens: int
    start: int
    provenance: Provenance
    recomputed: int = 0
    module: str | None = None
    context: str | None = None
    tier: str | None = None
    key: str | None = None
    note: str | None = None
