"""Attention states -> the parts of a file, and back, memory-mapped or from its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load
from torch import Tensor

from promptcache.kv import KV
from promptcache.store import format as files
from promptcache.store.compression import COMPRESSIONS, PackedKV, packed, unpacked
from promptcache.store.format import DamagedFileError, Part
from promptcache.store.identity import Identity

NAMES = {
    torch.float64: "F64", torch.int64: "I64", torch.float32: "F32", torch.int32: "I32",
    torch.float16: "F16", torch.bfloat16: "BF16", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL", torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
"""What safetensors calls the dtypes that are kept."""
TRIES = 3
"""How often a file is read anew that is replaced while it is read."""


def can_be_kept(kv: KV) -> bool:
    """Whether a file can hold states of these dtypes."""
    return {t.dtype for t in _tensors(kv).values()} <= NAMES.keys()


def parts_of(kv: KV) -> list[Part]:
    """The states as parts of a file, compressed ones packed; the bytes are the tensors' own where
    these are contiguous.
    """
    return [_part(name, tensor) for name, tensor in _tensors(packed(kv)).items()]


def read(path: Path, key: str, trusted: Callable[[Identity], bool]) -> tuple[KV, Identity]:
    """The states in a file, whose pages are loaded when they are read, and which file that was.

    A file that is `trusted` is not read through. Raises FileNotFoundError when there is none,
    DamagedFileError for one that is not what it must be, OSError when it cannot be read.
    """
    for _ in range(TRIES):
        with path.open("rb") as file:  # while it is open, no other file can have its number
            seen = Identity.of(file.fileno())
            try:
                told, tensors = _opened(path)
            except (DamagedFileError, OSError):
                if seen.is_same_file(Identity.of(path)):
                    raise
                continue
            if seen.is_same_file(Identity.of(path)):
                break
    else:
        raise OSError(f"{path} is replaced again and again")
    return _checked(told, tensors, key, trusted(seen)), seen


def decoded(data: bytes, key: str) -> KV:
    """The states in the bytes of a file, copied. Raises DamagedFileError as `read` does."""
    try:
        tensors = load(data)
        length = int.from_bytes(data[:8], "little")
        told = json.loads(data[8 : 8 + length]).get("__metadata__") or {}
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedFileError(f"is no whole safetensors file: {error}") from None
    return _checked(told, tensors, key, trusted=False)


def told_by(path: Path) -> tuple[dict[str, str], dict[str, tuple[str, list[int]]]]:
    """What a file's header says: metadata, and dtype and shape of each tensor. Raises as `read`."""
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            shapes = {name: (part.get_dtype(), part.get_shape()) for name, part in slices.items()}
            return file.metadata() or {}, shapes
    except SafetensorError as error:
        raise DamagedFileError(f"is no whole safetensors file: {error}") from None
    except RuntimeError as error:  # torch's, where a file cannot be mapped
        raise OSError(str(error)) from error


def _opened(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, tensors
    except SafetensorError as error:
        raise DamagedFileError(f"is no whole safetensors file: {error}") from None
    except RuntimeError as error:  # torch's, where a file cannot be mapped
        raise OSError(str(error)) from error


def _checked(
    told: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    key: str,
    trusted: bool,
) -> KV:
    """The states of that key, if they are: read through unless they are trusted."""
    files.check_told(told, key)
    kv = replace(
        _states(tensors, int(told[files.START])),
        cost=files.cost_of(told),
        origin=MappingProxyType(files.origin_of(told)),
    )
    if not trusted:
        found = files.checksum(told, parts_of(kv))
        if found != told[files.CHECKSUM]:
            raise DamagedFileError(f"has checksum {found}, not {told[files.CHECKSUM]}")
    return unpacked(kv)


def _tensors(kv: KV) -> dict[str, Tensor]:
    named = {f"key.{layer}": tensor for layer, tensor in enumerate(kv.keys)}
    named |= {f"value.{layer}": tensor for layer, tensor in enumerate(kv.values)}
    if isinstance(kv, PackedKV):
        of = [f"{kv.compression}.{name}" for name in named]
        named |= dict(zip(of, kv.peaks, strict=True))
    return named | {f"side.{name}": tensor for name, tensor in kv.side.items()}


def _part(name: str, tensor: Tensor) -> Part:
    shape = tuple(tensor.shape)
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return Part(name, NAMES[tensor.dtype], shape, flat.data)


def _states(tensors: Mapping[str, Tensor], start: int) -> KV:
    """The states that these tensors are, packed where they are compressed."""
    side = {name[5:]: tensor for name, tensor in tensors.items() if name.startswith("side.")}
    compression = next((c for c in COMPRESSIONS if f"{c}.key.0" in tensors), "")
    layers = (len(tensors) - len(side)) // (4 if compression else 2)
    keys, values = ([f"{part}.{layer}" for layer in range(layers)] for part in ("key", "value"))
    peaks = [f"{compression}.{name}" for name in (*keys, *values)] if compression else []
    if not layers or {*keys, *values, *peaks, *(f"side.{n}" for n in side)} != tensors.keys():
        raise DamagedFileError("holds other tensors than attention states")
    shapes = [tensors[name].shape for name in (*keys, *values)]
    lengths = [shape[1] for shape in shapes if len(shape) == 3]
    lengths += [tensor.shape[0] for tensor in side.values() if tensor.ndim]
    if len(lengths) < len(shapes) + len(side) or len(set(lengths)) != 1:
        raise DamagedFileError("holds tensors of other shapes than attention states have")
    if not {tensor.dtype for tensor in tensors.values()} <= NAMES.keys():
        raise DamagedFileError("holds numbers of a dtype that attention states are not kept in")
    kv = KV(
        tuple(tensors[name] for name in keys),
        tuple(tensors[name] for name in values),
        start,
        MappingProxyType(side),
    )
    return _packed(kv, compression, [tensors[name] for name in peaks]) if compression else kv


def _packed(kv: KV, compression: str, peaks: Sequence[Tensor]) -> PackedKV:
    small = PackedKV(
        kv.keys, kv.values, kv.start, kv.side, compression=compression, peaks=tuple(peaks)
    )
    if not small.fits:
        raise DamagedFileError(f"holds no states that are compressed as {compression}")
    return small
