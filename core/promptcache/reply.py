"""What a request gives back: text, usage, timings and the provenance of every token."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.library import Record
from promptcache.model.decode import FinishReason
from promptcache.trace import Provenance, Span, Trace

__all__ = ["Provenance", "Reply", "Span", "Stage", "Trace", "Usage", "trace_of"]


class Stage(StrEnum):
    """The stages of a request before its first token, in order."""

    PARSE = "parse"
    """Markup, template and recognition: from the string to segments."""
    LAYOUT = "layout"
    """Tokens and positions."""
    LOOKUP = "look up"
    """Finding modules in the store; encoding the missing ones."""
    ASSEMBLE = "assemble"
    """Moving modules to their places."""
    PREFILL = "prefill"
    """The forward over everything that is not reused."""
    SAMPLE = "sample"
    """Choosing the first token."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How many tokens came from where; the counts of the prompt add up to `input_tokens`.

    exact: reused, with attention states equal to a full prefill's; approximate: reused from a
    module that was encoded apart; encoded: missing from the cache, encoded as a module for this
    request and kept; recomputed: part of a module, computed again as the reuse policy says;
    new: part of no module.
    """

    exact: int = 0
    approximate: int = 0
    encoded: int = 0
    recomputed: int = 0
    new: int = 0
    output_tokens: int = 0

    @property
    def input_tokens(self) -> int:
        """Tokens of the whole prompt."""
        return self.reused_tokens + self.computed_tokens

    @property
    def reused_tokens(self) -> int:
        """Prompt tokens whose attention states were at hand."""
        return self.exact + self.approximate

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that the model had to run over."""
        return self.encoded + self.recomputed + self.new


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, and all there is to know about how it came about.

    `ttft` is the time from the call to the first token, `timings` its stages, all in seconds.
    """

    text: str
    usage: Usage
    trace: Trace
    ttft: float
    timings: Mapping[Stage, float]
    finish_reason: FinishReason
    token_ids: tuple[int, ...] = field(repr=False)
    model: str = ""
    policy: str = ""

    def _repr_html_(self) -> str:
        from html import escape

        return f"<p>{escape(self.text)}</p>{self.trace._repr_html_()}"


def trace_of(
    layout: Layout,
    reused: Collection[Piece],
    records: Mapping[ModuleRun, Record],
    computed: Collection[int],
    warnings: Collection[str] = (),
) -> tuple[Trace, Usage]:
    """The provenance of every piece of a prompt, and its sums.

    `computed` are the positions that the prefill's forward went over.
    """
    forward, at_hand = set(computed), set(reused)
    counts = dict.fromkeys(Provenance, 0)
    spans: list[Span] = []
    for piece in layout.pieces:
        record = records.get(piece.run) if piece.run and piece in at_hand else None
        fresh = sum(position in forward for position in range(piece.start, piece.stop))
        whole = _provenance(piece, record)
        again = Provenance.RECOMPUTED if piece.run else Provenance.NEW
        counts[again] += fresh
        counts[whole] += len(piece.ids) - fresh
        spans.append(
            Span(
                text=piece.text,
                tokens=len(piece.ids),
                start=piece.start,
                provenance=again if fresh == len(piece.ids) else whole,
                recomputed=fresh if piece.run else 0,
                module=piece.run.name if piece.run else None,
                context=str(piece.run.context.kind) if piece.run else None,
                tier=record.tier if record else None,
                key=record.key if record else None,
                note=_note(piece, record),
            )
        )
    usage = Usage(
        exact=counts[Provenance.EXACT],
        approximate=counts[Provenance.APPROXIMATE],
        encoded=counts[Provenance.ENCODED],
        recomputed=counts[Provenance.RECOMPUTED],
        new=counts[Provenance.NEW],
    )
    return Trace(tuple(spans), tuple(warnings)), usage


def _provenance(piece: Piece, record: Record | None) -> Provenance:
    if record is None:
        return Provenance.RECOMPUTED if piece.run else Provenance.NEW
    if record.encoded:
        return Provenance.ENCODED
    return Provenance.EXACT if piece.exact else Provenance.APPROXIMATE


def _note(piece: Piece, record: Record | None) -> str | None:
    if record and record.encoded:
        return "missed, encoded now" if record.kept else "missed, encoded now, too large to keep"
    return piece.note
