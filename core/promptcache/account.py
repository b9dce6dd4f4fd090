"""Where every token of a prompt came from: the account that a reply gives, span by span.

Made after the first token, since nothing before it needs it. Knows no tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from promptcache.conversations import Decode, Origins, Recalled
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.library import Source
from promptcache.reply import Usage
from promptcache.trace import Provenance, Span, Trace

CONVERSATION = "conversation"
"""What traces call the states of earlier turns."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a prompt's states came from.

    `reused` are the pieces that modules serve, from `sources`; `missing` the sorted positions that
    no module serves; `recalled` what of these an earlier turn served. `origins` is None where
    earlier turns were not looked for; `owner` is whose the states are; `checked` is what choosing
    took, in tokens; `unranked` are the modules that the policy has no ranking of yet. Holds no
    states, since it lives as long as the answer comes.
    """

    reused: Collection[Piece]
    sources: Mapping[ModuleRun, Source]
    missing: Sequence[int]
    recalled: Recalled | None = None
    origins: Origins | None = None
    owner: bytes = b""
    checked: float = 0.0
    unranked: Collection[ModuleRun] = ()

    @property
    def computed(self) -> frozenset[int]:
        """The positions that the prefill's forward went over."""
        at_hand = self.recalled.positions if self.recalled else ()
        return frozenset(self.missing).difference(at_hand)


def trace_of(
    layout: Layout, served: Served, decode: Decode, tier: str, warnings: Collection[str] = ()
) -> tuple[Trace, Usage]:
    """The provenance of every piece of a prompt, and its sums.

    `decode` gives the text of token ids; `tier` is where the states of earlier turns are kept.
    """
    forward = served.computed
    at_hand = {place for piece in served.reused for place in range(piece.start, piece.stop)}
    counts = dict.fromkeys(Provenance, 0)
    spans: list[Span] = []
    for piece, earlier in _cut(layout.pieces, served, decode):
        if earlier is not None:
            counts[earlier.provenance] += earlier.tokens
            spans.append(replace(earlier, tier=tier))
            continue
        source = served.sources.get(piece.run) if piece.run and piece.start in at_hand else None
        fresh = sum(position in forward for position in range(piece.start, piece.stop))
        whole = _provenance(piece, source)
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
                module=piece.module,
                context=str(piece.run.context.kind) if piece.run else None,
                tier=source.tier if source else None,
                key=source.key if source else None,
                note=_note(piece, source),
            )
        )
    usage = Usage(
        exact=counts[Provenance.EXACT],
        approximate=counts[Provenance.APPROXIMATE],
        encoded=counts[Provenance.ENCODED],
        recomputed=counts[Provenance.RECOMPUTED],
        new=counts[Provenance.NEW],
        checked=served.checked,
    )
    return Trace(tuple(spans), tuple(warnings)), usage


def _cut(
    pieces: Iterable[Piece], served: Served, decode: Decode
) -> Iterator[tuple[Piece, Span | None]]:
    """The pieces, cut where an earlier turn begins or ends to serve them; its parts as spans."""
    recalled = served.recalled
    if recalled is None or served.origins is None:
        yield from ((piece, None) for piece in pieces)
        return
    approximate = served.origins < 0
    exact_end = int(approximate.argmax()) if approximate.any() else len(approximate)
    at_hand = frozenset(recalled.positions)
    for piece in pieces:
        places = range(piece.start, piece.stop)
        if at_hand.isdisjoint(places):
            yield piece, None
            continue
        done = 0
        for from_earlier, group in groupby(places, key=at_hand.__contains__):
            start, tokens = piece.start + done, len(list(group))
            part = _part(piece, done, done + tokens, decode)
            done += tokens
            if not from_earlier:
                yield part, None
                continue
            exact = start + tokens <= exact_end
            yield (
                part,
                Span(
                    text=part.text,
                    tokens=tokens,
                    start=start,
                    provenance=Provenance.EXACT if exact else Provenance.APPROXIMATE,
                    module=CONVERSATION,
                    key=recalled.key,
                    note=piece.note,
                ),
            )


def _part(piece: Piece, first: int, last: int, decode: Decode) -> Piece:
    """Tokens `first` to `last` of a piece; its text is cut at the nearest whole character."""
    if first == 0 and last == len(piece.ids):
        return piece
    start, stop = (_characters(piece, tokens, decode) for tokens in (first, last))
    return replace(
        piece,
        text=piece.text[start:stop],
        ids=piece.ids[first:last],
        start=piece.start + first,
        offset=piece.offset + first,
    )


def _characters(piece: Piece, tokens: int, decode: Decode) -> int:
    """How many characters of a piece's text its first tokens are."""
    if tokens == len(piece.ids):
        return len(piece.text)
    said = decode(piece.ids[:tokens]).rstrip("\ufffd")
    return len(said) if piece.text.startswith(said) else len(piece.text) * tokens // len(piece.ids)


def _provenance(piece: Piece, source: Source | None) -> Provenance:
    if source is None:
        return Provenance.RECOMPUTED if piece.run else Provenance.NEW
    if source.encoded:
        return Provenance.ENCODED
    exact = piece.exact and not source.compression
    return Provenance.EXACT if exact else Provenance.APPROXIMATE


def _note(piece: Piece, source: Source | None) -> str | None:
    if source and source.encoded:
        why = f"not read from {source.slower}, which takes longer" if source.slower else "missed"
        return f"{why}, encoded now" if source.kept else f"{why}, encoded now, too large to keep"
    if source and source.compression and piece.exact:
        return piece.note or f"exact, but for being kept as {source.compression}"
    return piece.note
