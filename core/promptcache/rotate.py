"""How keys move: what turns the key of a token at one position into its key at another.

Values never depend on position. Keys of rotary models turn by an angle that is proportional to
the distance; keys of ALiBi models and of layers without positions do not change at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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

    def angles(self, distances: Sequence[int]) -> Tensor:
        """Radians by which each pair turns over each distance, `[distances, pairs]`, float64."""
        frequencies = self.frequencies.double().cpu()
        return torch.tensor(distances, dtype=torch.float64)[:, None] * frequencies

    def turns(
        self, distances: Sequence[int], key_dim: int, device: torch.device | None = None
    ) -> list[Turn]:
        """The moves by these distances, their angles worked out at once, for keys on `device`."""
        angles = self.angles(distances)
        width = torch.ones(len(distances), key_dim, dtype=torch.float64)
        for half in self.pairs(width):
            half.copy_(angles.cos())
        device = device or self.frequencies.device
        cosines = width.float().to(device).unbind()
        sines = angles.sin().float().to(device).unbind()
        return [Turn(self, *both) for both in zip(cosines, sines, strict=True)]

    def pairs(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """The two members of every pair, each `[..., pairs]`, as views of `keys`."""
        first = self.first(keys.shape[-1])
        turning = keys[..., first : first + 2 * len(self.frequencies)]
        if self.interleaved:
            return turning[..., 0::2], turning[..., 1::2]
        half, other = turning.chunk(2, dim=-1)
        return half, other

    def first(self, key_dim: int) -> int:
        """The first dimension that turns."""
        return key_dim - 2 * len(self.frequencies) if self.last else 0


@dataclass(frozen=True, slots=True, eq=False)
class Turn:
    """A rotation by one distance: the cosine of each dimension of a key, `[key_dim]`, 1 where it
    does not turn, and the sine of each pair, `[pairs]`; float32. Or by one distance for each
    token: `[tokens, key_dim]` and `[tokens, pairs]`.
    """

    rotation: Rotation
    cos: Tensor
    sin: Tensor

    def of(self, start: int, stop: int) -> Turn:
        """The turns of the tokens `start` to `stop`, where each has its own."""
        return Turn(self.rotation, self.cos[start:stop], self.sin[start:stop])

    def apply(self, keys: Tensor, out: Tensor) -> None:
        """Write turned `keys` `[..., tokens, key_dim]` into `out`, another tensor; both float32."""
        self.between(keys, out)()

    def between(self, keys: Tensor, out: Tensor) -> Callable[[], None]:
        """What does as `apply` does, with whatever the tensors hold when it is called."""
        (a, b), (a_out, b_out) = self.rotation.pairs(keys), self.rotation.pairs(out)

        def turn() -> None:
            torch.mul(keys, self.cos, out=out)
            a_out.addcmul_(b, self.sin, value=-1)
            b_out.addcmul_(a, self.sin)

        return turn


class Mover:
    """Moves keys, one tensor after another, in the same working memory.

    A move reads and writes each byte once, as a copy does, and works in between on what fits a
    core's cache. Not safe to use from several threads.
    """

    def __init__(self, rotations: Sequence[Rotation | None], distances: Sequence[int]) -> None:
        """Ready to move the keys of layers with these rotations by any of `distances`."""
        self._rotations = rotations
        self._places = {distance: place for place, distance in enumerate(dict.fromkeys(distances))}
        self._turns: dict[tuple[Rotation, int, torch.device], list[Turn]] = {}
        self._work = torch.empty(0)

    def move(self, out: Tensor, keys: Tensor, layer: int, distance: int) -> None:
        """Write one layer's `keys` `[..., tokens, key_dim]` into `out`, moved by `distance`.

        They may be on another device; from pinned memory they are copied without waiting.
        """
        rotation = self._rotations[layer]
        if rotation is None or distance == 0:
            out.copy_(keys, non_blocking=True)
            return
        made = rotation, keys.shape[-1], out.device
        if made not in self._turns:
            self._turns[made] = rotation.turns(list(self._places), *made[1:])
        turn = self._turns[made][self._places[distance]]
        if keys.dtype == torch.float32 == out.dtype and keys.device == out.device:
            turn.apply(keys, out)
            return
        wide, turned = self._room(out)
        wide.copy_(keys, non_blocking=True)
        turn.apply(wide, turned)
        out.copy_(turned)

    def _room(self, out: Tensor) -> tuple[Tensor, Tensor]:
        """Two tensors in float32 of the shape of `out`, on its device."""
        needed = 2 * out.numel()
        if self._work.numel() < needed or self._work.device != out.device:
            self._work = torch.empty(needed, device=out.device)
        wide, turned = self._work[:needed].view(2, *out.shape)
        return wide, turned


def moved(keys: Tensor, rotation: Rotation | None, distance: int) -> Tensor:
    """A copy of `keys` `[..., tokens, key_dim]`, moved by `distance` positions.

    Always move from the keys as they were computed: moves of moved keys add up their rounding.
    """
    out = torch.empty_like(keys)
    Mover([rotation], [distance]).move(out, keys, 0, distance)
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
