"""Compression of attention states: rounded once, to values that fewer bits hold with no more loss.

Each number becomes a whole number of steps of its group's greatest magnitude, the *peak*: keys in
groups of tokens of one channel, since some channels are far larger than others for all tokens, and
values in groups of channels of one token (KIVI: Liu et al., ICML 2024). The peak is kept as it
was, so that rounded values pack into the same steps and peaks again, however often: any tier may
hold either form, and all give the same values. Keys are rounded where they were encoded: a rotation
by the same angle for all would not make a group any more even.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from promptcache.errors import OptionError, valid
from promptcache.kv import KV

TOKENS, CHANNELS = 1, 2
"""The axes of states `[kv_heads, tokens, dim]` along which numbers share a peak."""
WIDE = {
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.float32: torch.float32,
    torch.float64: torch.float64,
}
"""The dtypes that are compressed, and those in which it is done."""


@dataclass(frozen=True, slots=True)
class Compression:
    """A way to hold states in fewer bits.

    `steps` is how many steps lead from nothing to the peak, `tokens` how many keys of a channel
    share a peak, `channels` how many values of a token do. With `halves`, two numbers are held in
    one byte.
    """

    name: str
    steps: int
    tokens: int
    channels: int
    halves: bool = False

    def group(self, axis: int) -> int:
        """How many numbers share a peak along this axis."""
        return self.tokens if axis == TOKENS else self.channels


COMPRESSIONS = {
    each.name: each
    for each in (
        Compression("int8", steps=127, tokens=64, channels=128),
        Compression("int4", steps=7, tokens=32, channels=32, halves=True),
    )
}


@dataclass(frozen=True, slots=True)
class PackedKV(KV):
    """States as whole numbers of steps, in place of keys and values, which only a store may hold.

    `peaks` are the peaks of each layer's keys `[kv_heads, groups, key_dim]`, and then of each
    layer's values `[kv_heads, tokens, groups]`, in the dtype that the states have.
    """

    peaks: tuple[Tensor, ...] = ()

    @property
    def nbytes(self) -> int:
        """Bytes of every tensor, peaks and side tensors included."""
        tensors = (*self.keys, *self.values, *self.side.values(), *self.peaks)
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    @property
    def fits(self) -> bool:
        """Whether steps and peaks have the dtypes and shapes that go together."""
        how = COMPRESSIONS.get(self.compression)
        return how is not None and all(
            steps.dtype == (torch.uint8 if how.halves else torch.int8)
            and peaks.dtype in WIDE
            and peaks.shape == _peaks_shape(_full_shape(steps, how), axis, how)
            for steps, peaks, axis in _tensors_of(self)
        )


def checked_compression(given: object) -> str:
    """The name of a compression, "" for none. OptionError for what is not the name of one."""
    if given is None or given == "":
        return ""
    if not isinstance(given, str) or given not in COMPRESSIONS:
        raise OptionError(
            f"compression={given!r:.80} is none{valid(str(given)[:80], COMPRESSIONS)}"
        )
    return given


def rounded(kv: KV, compression: str) -> KV:
    """The states as they are once they were held in this compression; "" leaves them as they are.

    So do numbers that are not finite, dtypes that are compressed already, and an odd number of
    channels where two share a byte.
    """
    how = COMPRESSIONS.get(compression)
    if how is None or not _can_be_packed(kv, how):
        return kv
    small = _in_steps(replace(kv, compression=compression), how)
    finite = [torch.isfinite(peaks).all() for peaks in small.peaks]
    return unpacked(small) if all(map(bool, finite)) else kv


def packed(kv: KV) -> KV:
    """The states in the form of their compression, with no loss; those without one as they are."""
    if isinstance(kv, PackedKV) or not kv.compression:
        return kv
    return _in_steps(kv, COMPRESSIONS[kv.compression])


def unpacked(kv: KV, device: torch.device | None = None) -> KV:
    """The states as a model takes them, on `device` if one is given and they were packed."""
    if not isinstance(kv, PackedKV):
        return kv
    how = COMPRESSIONS[kv.compression]
    states = [_unpacked(*each, how, device) for each in _tensors_of(kv)]
    layers = len(kv.keys)
    tensors = {"keys": tuple(states[:layers]), "values": tuple(states[layers:])}
    return KV(**_fields(kv) | tensors)


def _in_steps(kv: KV, how: Compression) -> PackedKV:
    pairs = [_packed(keys, TOKENS, how) for keys in kv.keys]
    pairs += [_packed(values, CHANNELS, how) for values in kv.values]
    steps, layers = [steps for steps, _ in pairs], len(kv.keys)
    return PackedKV(
        **_fields(kv)
        | {"keys": tuple(steps[:layers]), "values": tuple(steps[layers:])}
        | {"peaks": tuple(peaks for _, peaks in pairs)}
    )


def _fields(kv: KV) -> dict[str, Any]:
    return {field.name: getattr(kv, field.name) for field in fields(KV)}


def _tensors_of(kv: PackedKV) -> list[tuple[Tensor, Tensor, int]]:
    """The steps and peaks of keys and then of values, and the axis of their groups."""
    axes = [TOKENS] * len(kv.keys) + [CHANNELS] * len(kv.values)
    return list(zip((*kv.keys, *kv.values), kv.peaks, axes, strict=True))


def _can_be_packed(kv: KV, how: Compression) -> bool:
    return all(
        tensor.dtype in WIDE and not (how.halves and tensor.shape[2] % 2)
        for tensor in (*kv.keys, *kv.values)
    )


def _packed(states: Tensor, axis: int, how: Compression) -> tuple[Tensor, Tensor]:
    """Steps and peaks of `[kv_heads, tokens, dim]`."""
    peaks = _peaks(states, axis, how)
    wide = WIDE[states.dtype]
    peak = _spread(peaks.to(wide), states.shape[axis], axis, how)
    share = states.to(wide) / peak.masked_fill(peak == 0, 1)
    steps = (share * how.steps).round().to(torch.int8)
    if not how.halves:
        return steps, peaks
    above = (steps + how.steps + 1).to(torch.uint8)
    return above[:, :, ::2] | above[:, :, 1::2] << 4, peaks


def _unpacked(
    steps: Tensor, peaks: Tensor, axis: int, how: Compression, device: torch.device | None
) -> Tensor:
    """`[kv_heads, tokens, dim]` in the peaks' dtype."""
    if device is not None:
        steps, peaks = steps.to(device), peaks.to(device)
    wide = WIDE[peaks.dtype]
    states = torch.empty(_full_shape(steps, how), dtype=wide, device=steps.device)
    if how.halves:
        states[:, :, ::2], states[:, :, 1::2] = steps & 15, steps >> 4
        states -= how.steps + 1
    else:
        states.copy_(steps)
    # A tensor, since some devices multiply by the inverse of a number, which is not the same.
    states /= torch.full((), how.steps, dtype=wide, device=steps.device)
    states *= _spread(peaks.to(wide), states.shape[axis], axis, how)
    return states.to(peaks.dtype)


def _peaks(states: Tensor, axis: int, how: Compression) -> Tensor:
    """The greatest magnitude of each group."""
    groups, group = _groups(states.shape[axis], axis, how)
    missing = groups * group - states.shape[axis]
    whole = pad(states, (0, 0, 0, missing) if axis == TOKENS else (0, missing))
    shape = (*whole.shape[:axis], groups, group, *whole.shape[axis + 1 :])
    return whole.abs().reshape(shape).amax(axis + 1)


def _spread(peaks: Tensor, length: int, axis: int, how: Compression) -> Tensor:
    """Each number's peak, or one for all along the axis."""
    groups, group = _groups(length, axis, how)
    if groups == 1:
        return peaks
    return peaks.repeat_interleave(group, dim=axis).narrow(axis, 0, length)


def _groups(length: int, axis: int, how: Compression) -> tuple[int, int]:
    """How many groups there are, and how many numbers each has."""
    group = max(1, min(how.group(axis), length))
    return -(-length // group), group


def _full_shape(steps: Tensor, how: Compression) -> tuple[int, ...]:
    heads, tokens, channels = steps.shape
    return heads, tokens, 2 * channels if how.halves else channels


def _peaks_shape(shape: tuple[int, ...], axis: int, how: Compression) -> torch.Size:
    groups, _ = _groups(shape[axis], axis, how)
    return torch.Size(groups if at == axis else length for at, length in enumerate(shape))
