"""How keys move: what turns the key of a token at one position into its key at another.

Values never depend on position. Keys of rotary models turn by an angle that is proportional to
the distance; keys of ALiBi models and of layers without positions do not change at all.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rotation:
    """A rotary embedding, as far as moving a key needs it.

    `frequencies` is `[pairs]`, float32, in radians per position. The pairs lie in dimensions
    `first` to `first + 2 * pairs` of a key: as (i, i + pairs) when `interleaved` is false, as
    (2i, 2i + 1) when it is true. The remaining dimensions do not turn. Scaling factors that a
    model multiplies into cosine and sine (yarn) are in the stored key already, so the rotation
    here is always of unit length.
    """

    frequencies: Tensor
    interleaved: bool = False
    first: int = 0

    def __str__(self) -> str:
        layout = "interleaved" if self.interleaved else "half-split"
        return f"{layout} rotary over {2 * len(self.frequencies)} dimensions from {self.first}"

    def angles(self, distance: int) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each `[pairs]` in float32, for a move by `distance` positions."""
        turned = self.frequencies.double() * distance
        return turned.cos().float(), turned.sin().float()

    def pairs(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The two members of every pair, each `[..., pairs]`, as views of `keys`."""
        span = len(self.frequencies)
        if self.interleaved:
            last = self.first + 2 * span
            return keys[..., self.first : last : 2], keys[..., self.first + 1 : last : 2]
        middle = self.first + span
        return keys[..., self.first : middle], keys[..., middle : middle + span]

    def still(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The dimensions before and after the rotary ones, as views of `keys`."""
        return keys[..., : self.first], keys[..., self.first + 2 * len(self.frequencies) :]


def move_into(out: Tensor, keys: Tensor, rotation: Rotation | None, distance: int) -> None:
    """Write `keys` `[..., tokens, key_dim]`, moved by `distance` positions, into `out`.

    Each byte of `out` is written once. Always move from the keys as they were computed: moves of
    moved keys add up their rounding.
    """
    if rotation is None or distance == 0:
        out.copy_(keys)
        return
    cos, sin = (angle.to(keys.device) for angle in rotation.angles(distance))
    for still_out, still in zip(rotation.still(out), rotation.still(keys), strict=True):
        still_out.copy_(still)
    (a, b), (a_out, b_out) = rotation.pairs(keys), rotation.pairs(out)
    a_wide, b_wide = a.float(), b.float()
    a_out.copy_((a_wide * cos).addcmul_(b_wide, sin, value=-1))
    b_out.copy_((b_wide * cos).addcmul_(a_wide, sin))


def moved(keys: Tensor, rotation: Rotation | None, distance: int) -> Tensor:
    """A copy of `keys` `[..., tokens, key_dim]`, moved by `distance` positions."""
    out = torch.empty_like(keys)
    move_into(out, keys, rotation, distance)
    return out


@dataclass(frozen=True, slots=True)
class Movement:
    """How a model's keys move: one rotation per layer, None for a layer whose keys stay.

    `unmovable` says why they cannot be moved at all; then only exact prefixes can be reused.
    `limit` is the number of positions beyond which even unmoved states are no longer those of the
    plain model, because its rotary frequencies change with the length; `limited_by` names why.
    """

    rotations: tuple[Rotation | None, ...] = ()
    unmovable: str | None = None
    limit: int | None = None
    limited_by: str | None = None

    def __str__(self) -> str:
        if self.unmovable:
            return f"keys cannot be moved: {self.unmovable}"
        return ", ".join(_counted(str(r) if r else "keys stay" for r in self.rotations))


def _counted(names: Iterable[str]) -> list[str]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return [f"{name} ({count} layers)" for name, count in counts.items()]
