"""Compute those tokens again that depend most on what stands before them, as was found before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from promptcache.errors import OptionError
from promptcache.kv import KV, SENSITIVITY
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.reuse.policy import Check, ReusePolicy

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class Sensitive(ReusePolicy):
    """Compute the share `ratio` of reused tokens again, ranked when their module was encoded.

    A module is encoded once more behind an unrelated text, after the reply that first needed it;
    the tokens whose keys and values change most with that are those that a prompt changes most,
    too. Expected states are ranked from the beginning, by their variance. Choosing costs a prompt
    nothing. Of a module that is not ranked yet the first tokens are computed, as `FirstK` does,
    and the trace says so. Modules whose states are exact are left as they are.

    Raises OptionError for a `ratio` that is no share above 0.
    """

    ratio: float = 0.05

    later: ClassVar[tuple[str, ...]] = (SENSITIVITY,)

    def __post_init__(self) -> None:
        ratio = self.ratio
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
            raise OptionError(
                f"ratio={ratio!r}: Sensitive takes a share of the tokens, above 0 and up to 1"
            )

    def recomputed(
        self, layout: Layout, records: Mapping[ModuleRun, KV], check: Check
    ) -> Collection[int]:
        """The positions that rank highest over all modules; of equal ones, those that come first.

        Modules that are not ranked give their first tokens.
        """
        import torch  # here, so that what only names a policy needs none

        del check
        pieces = [piece for piece in self.reused(layout) if not piece.exact]
        ranked = [piece for piece in pieces if _has_ranking(piece, records)]
        places = [place for piece in ranked for place in range(piece.start, piece.stop)]
        others = [piece for piece in pieces if not _has_ranking(piece, records)]
        chosen = [place for piece in others for place in self._first(piece)]
        if places:
            scores = torch.cat([_scores(piece, records) for piece in ranked])
            order = torch.sort(scores, descending=True, stable=True).indices
            chosen += [places[n] for n in order[: round(self.ratio * len(places))].tolist()]
        return chosen

    def _first(self, piece: Piece) -> Iterator[int]:
        """The places of a piece that are among the first tokens of its module."""
        assert piece.run is not None
        count = round(self.ratio * len(piece.run.ids)) - piece.offset
        yield from range(piece.start, piece.start + max(0, min(count, len(piece.ids))))

    def unranked(self, modules: Collection[str]) -> str:
        """What there is to say about modules that had no ranking."""
        names = ", ".join(sorted(modules)[:5]) + (", ..." if len(modules) > 5 else "")
        return (
            f"unranked: {names}; FirstK stood in, with the first {self.ratio:.0%} of the tokens of "
            "each"
        )


def _has_ranking(piece: Piece, records: Mapping[ModuleRun, KV]) -> bool:
    return piece.run is not None and SENSITIVITY in records[piece.run].side


def _scores(piece: Piece, records: Mapping[ModuleRun, KV]) -> torch.Tensor:
    assert piece.run is not None
    return records[piece.run].side[SENSITIVITY][piece.offset : piece.offset + len(piece.ids)].cpu()
