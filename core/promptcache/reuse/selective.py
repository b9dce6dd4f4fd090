"""Compute those tokens again whose states deviate most, as a pass over the first layers shows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from promptcache.errors import OptionError
from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.reuse.policy import Check, ReusePolicy

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Selective(ReusePolicy):
    """Compute the share `ratio` of reused tokens again (CacheBlend: Yao et al., EuroSys 2025).

    They are the tokens, of all modules that are not exact, whose values in layer `check_layer`
    differ most from those of a full prefill. To know these, the prompt is run through the layers
    up to that one, which takes time on the way to the first token: of a model with 32 layers, 1/16
    of a full prefill. A `ratio` of 1 computes everything again and checks nothing.

    Raises OptionError for a `ratio` that is no share above 0, or a `check_layer` that is no layer.
    """

    ratio: float = 0.15
    check_layer: int = 1

    def __post_init__(self) -> None:
        ratio, layer = self.ratio, self.check_layer
        if isinstance(ratio, bool) or not isinstance(ratio, int | float) or not 0 < ratio <= 1:
            raise OptionError(
                f"ratio={ratio!r}: Selective takes a share of the tokens, above 0 and up to 1"
            )
        if isinstance(layer, bool) or not isinstance(layer, int) or layer < 0:
            raise OptionError(
                f"check_layer={layer!r}: Selective takes the number of a layer, 0 or more"
            )

    def check_layers(self, layers: int) -> None:
        """Raise OptionError when the model has no layer `check_layer`."""
        if self.check_layer >= layers:
            raise OptionError(
                f"check_layer={self.check_layer}: the model's layers are 0 to {layers - 1}"
            )

    def recomputed(
        self, layout: Layout, records: Mapping[ModuleRun, KV], check: Check
    ) -> Collection[int]:
        """The positions of the tokens that deviate most; of equal ones, those that come first."""
        import torch  # here, so that what only names a policy needs none

        pieces = [piece for piece in self.reused(layout) if not piece.exact]
        places = [place for piece in pieces for place in range(piece.start, piece.stop)]
        count = max(1, round(self.ratio * len(places)))
        if count >= len(places):
            return places
        _, values = check.fresh(self.check_layer)
        deviations = torch.cat([self._deviations(piece, values, records) for piece in pieces])
        order = torch.sort(deviations, descending=True, stable=True).indices
        return [places[number] for number in order[:count].tolist()]

    def _deviations(self, piece: Piece, values: Tensor, records: Mapping[ModuleRun, KV]) -> Tensor:
        """How far each token's values in the check layer are from the prompt's, squared, `[n]`.

        The prompt's `values` are `[kv_heads, tokens, dim]`. Values are the same wherever a module
        stands, so nothing is moved for it.
        """
        assert piece.run is not None
        here = values[:, piece.start : piece.stop]
        there = records[piece.run].values[self.check_layer]
        there = there[:, piece.offset : piece.offset + len(piece.ids)].to(here.device)
        off = (here.float() - there.float()).square().sum((0, 2))
        least = _rounding(here.dtype) ** 2 * here.float().square().sum((0, 2))
        return off.where(off > least, 0.0)


def _rounding(dtype: torch.dtype) -> float:
    """How much of a state's size rounding may make of it: two such states are ranked as equal."""
    import torch

    return max(1e-4, 4 * torch.finfo(dtype).eps)
