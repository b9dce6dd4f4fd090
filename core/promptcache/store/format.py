"""The files that attention states are kept in: safetensors, with a header that says what it holds.

Version 1. The header's metadata are `promptcache` (the version), `key`, `start`, and `checksum`:
the CRC-32 of the other metadata, of every tensor's name, dtype and shape, and of all their bytes.
Where it is known how long encoding took, `cost` says it, in seconds; where it is known what the
states are of, `model` is the fingerprint of that model, and `tokens` are the ids of the tokens.
It is plain data: nothing that is read is ever run. Knows no torch, and nothing of where files are.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from types import MappingProxyType
from typing import BinaryIO

VERSION = "1"
FORMAT = "promptcache"
KEY = "key"
START = "start"
LONGEST_START = 18
LEAST_COST, MOST_COST = 1e-9, 1e9
"""Seconds that encoding can have taken: what else a file says is not believed."""
"""Digits of a position, at most."""
COST = "cost"
CHECKSUM = "checksum"
MODEL = "model"
TOKENS = "tokens"
ORIGIN = MODEL, TOKENS
TOKEN = re.compile(r"[0-9]{1,18}")
NOTHING: Mapping[str, str] = MappingProxyType({})
ALIGNMENT = 64
"""Bytes that the tensors' beginning is a multiple of."""
ITEM_BYTES = {
    "F64": 8, "I64": 8, "F32": 4, "I32": 4, "F16": 2, "BF16": 2, "I16": 2,
    "I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""The dtypes that are kept, by their names in safetensors, and the bytes of one number."""


class DamagedFileError(Exception):
    """A file that does not hold what its name says; the message says why, in half a sentence."""


@dataclass(frozen=True, slots=True)
class Part:
    """One tensor: its name, its dtype as safetensors calls it, its shape and its bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def origin(model: str, tokens: Iterable[int]) -> dict[str, str]:
    """What says that states are of these token ids, by the model of this fingerprint."""
    return {MODEL: model, TOKENS: " ".join(map(str, tokens))}


def origin_of(told: Mapping[str, str]) -> dict[str, str]:
    """What the metadata say of the model and the tokens; empty where they say nothing."""
    return {name: told[name] for name in ORIGIN if name in told}


def tokens_of(told: Mapping[str, str]) -> list[int]:
    """The token ids, by the metadata; none where they do not say."""
    ids = told.get(TOKENS, "").split(" ")
    return [int(each) for each in ids] if all(map(TOKEN.fullmatch, ids)) else []


def about(
    key: str,
    start: int,
    parts: Iterable[Part],
    cost: float | None = None,
    origin: Mapping[str, str] = NOTHING,
) -> dict[str, str]:
    """The metadata of a file."""
    told = {FORMAT: VERSION, KEY: key, START: str(start), **origin_of(origin)}
    if cost is not None:
        told[COST] = f"{cost:.3g}"
    return {**told, CHECKSUM: checksum(told, parts)}


def checksum(told: Mapping[str, str], parts: Iterable[Part]) -> str:
    """A checksum of all that a file says, its own checksum aside."""
    ordered = in_order(parts)
    said = sorted((name, value) for name, value in told.items() if name != CHECKSUM)
    table = [said, [(part.name, part.dtype, part.shape) for part in ordered]]
    value = zlib.crc32(json.dumps(table).encode())
    for part in ordered:
        value = zlib.crc32(part.data, value)
    return f"crc32:{value:08x}"


def in_order(parts: Iterable[Part]) -> list[Part]:
    """The parts as they stand in a file: those of larger numbers first, so that all are aligned."""
    return sorted(parts, key=lambda part: (-ITEM_BYTES[part.dtype], part.name))


def header(told: Mapping[str, str], parts: Iterable[Part]) -> bytes:
    """All of a file that stands before its tensors."""
    table: dict[str, object] = {"__metadata__": dict(told)}
    end = 0
    for part in in_order(parts):
        begin, end = end, end + prod(part.shape) * ITEM_BYTES[part.dtype]
        assert len(part.data) == end - begin
        table[part.name] = {"dtype": part.dtype, "shape": part.shape, "data_offsets": [begin, end]}
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def size(head: bytes, parts: Iterable[Part]) -> int:
    """How many bytes a file has."""
    return len(head) + sum(len(part.data) for part in parts)


def write(file: BinaryIO, head: bytes, parts: Sequence[Part]) -> None:
    """Write a file whose `header` is `head`."""
    file.write(head)
    for part in in_order(parts):
        file.write(part.data)


def check_told(told: Mapping[str, str], key: str) -> None:
    """Raise DamagedFileError unless the metadata are those of a file of this version and key."""
    if FORMAT not in told:
        raise DamagedFileError("was not written by promptcache")
    if told[FORMAT] != VERSION:
        raise DamagedFileError(f"has format {told[FORMAT]!r}, where {VERSION!r} is read")
    if told.get(KEY) != key:
        raise DamagedFileError(f"holds the states of another key, {told.get(KEY)!r}")
    start = told.get(START, "")
    if not start.isdecimal() or len(start) > LONGEST_START or CHECKSUM not in told:
        raise DamagedFileError("lacks metadata")


def promised(head: bytes) -> dict[str, object]:
    """What the beginning of a file says of the tensors in it; empty where it is not whole.

    Files of one key that say the same hold the same states, encoded twice perhaps.
    """
    try:
        table = json.loads(head[8 : 8 + int.from_bytes(head[:8], "little")])
        told = dict(table["__metadata__"])
    except (ValueError, KeyError, TypeError):
        return {}
    return {**table, "__metadata__": {k: told[k] for k in told if k not in {CHECKSUM, COST}}}


def cost_of(told: Mapping[str, str]) -> float | None:
    """How long encoding took, in seconds, by the metadata; None where they do not say."""
    try:
        cost = float(told[COST])
    except (KeyError, ValueError):
        return None
    return cost if LEAST_COST <= cost <= MOST_COST else None
