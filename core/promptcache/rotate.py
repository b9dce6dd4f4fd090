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

    `frequencies` is `[pairs]`, float32, in radians per position. The pairs lie in the first
    `2 * pairs` dimensions of a key, or in the last ones: as (i, i + pairs) when `interleaved` is
    false, as (2i, 2i + 1) when it is true. The remaining dimensions do not turn. Scaling factors
    that a model multiplies into cosine and sine (yarn) are in the stored key already, so the
    rotation here is always of unit length.
    """

    frequencies: Tensor
    interleaved: bool = False
    last: bool = False

    def __str__(self) -> str:
        layout = "interleaved" if self.interleaved else "half-split"
        where = "last" if self.last else "first"
        return f"{layout} rotary over the {where} {2 * len(self.frequencies)} dimensions"

    def fits(self, key_dim: int) -> bool:
        """Whether a key has as many dimensions as turn; all of them count as the first."""
        span = 2 * len(self.frequencies)
        return span < key_dim or (span == key_dim and not self.last)

    def turn(self, distance: int) -> Turn:
        """The move by `distance` positions, its angles worked out."""
        angles = self.frequencies.double().cpu() * distance
        device = self.frequencies.device
        return Turn(self, angles.cos().float().to(device), angles.sin().float().to(device))

    def pairs(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The two members of every pair, each `[..., pairs]`, as views of `keys`."""
        turning = keys[..., self._first(keys) : self._first(keys) + 2 * len(self.frequencies)]
        if self.interleaved:
            return turning[..., 0::2], turning[..., 1::2]
        first, second = turning.chunk(2, dim=-1)
        return first, second

    def still(self, keys: Tensor) -> Tensor:
        """The dimensions that do not turn, as a view of `keys`."""
        if self.last:
            return keys[..., : self._first(keys)]
        return keys[..., 2 * len(self.frequencies) :]

    def _first(self, keys: Tensor) -> int:
        return keys.shape[-1] - 2 * len(self.frequencies) if self.last else 0


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A rotation by one distance: cosine and sine, `[pairs]` each, float32."""

    rotation: Rotation
    cos: Tensor
    sin: Tensor


def turns(rotations: Iterable[Rotation | None], distance: int) -> list[Turn | None]:
    """One turn per layer; layers that share a rotation share its turn."""
    made: dict[Rotation, Turn] = {}
    found: list[Turn | None] = []
    for rotation in rotations:
        if rotation is None or distance == 0:
            found.append(None)
            continue
        if rotation not in made:
            made[rotation] = rotation.turn(distance)
        found.append(made[rotation])
    return found


def move_into(out: Tensor, keys: Tensor, turn: Turn | None) -> None:
    """Write `keys` `[..., tokens, key_dim]` into `out`, turned, or as they are without a turn.

    Each byte of `out` is written once. Always move from the keys as they were computed: moves of
    moved keys add up their rounding.
    """
    if turn is None:
        out.copy_(keys)
        return
    rotation, cos, sin = turn.rotation, turn.cos, turn.sin
    rotation.still(out).copy_(rotation.still(keys))
    (a, b), (a_out, b_out) = rotation.pairs(keys), rotation.pairs(out)
    a_wide, b_wide = a.float(), b.float()
    a_out.copy_((a_wide * cos).addcmul_(b_wide, sin, value=-1))
    b_out.copy_((b_wide * cos).addcmul_(a_wide, sin))


def moved(keys: Tensor, rotation: Rotation | None, distance: int) -> Tensor:
    """A copy of `keys` `[..., tokens, key_dim]`, moved by `distance` positions."""
    out = torch.empty_like(keys)
    move_into(out, keys, rotation.turn(distance) if rotation else None)
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
