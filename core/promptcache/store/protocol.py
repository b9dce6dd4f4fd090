"""What a tier of the store must do. Keys are opaque names; a key's keys and values never change."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from promptcache.kv import KV


@dataclass(frozen=True, slots=True)
class Effort:
    """What it takes to encode states that are not found: seconds, and the bytes that they have."""

    seconds: float
    nbytes: int


NO_EFFORTS: Mapping[str, Effort] = MappingProxyType({})


@runtime_checkable
class Store(Protocol):
    """A bounded place for attention states, safe to use from several threads."""

    @property
    def tier(self) -> str:
        """What traces call it, "memory" for instance; of several, the one that was just put to."""

    @property
    def budget(self) -> int:
        """The bytes that it never exceeds."""

    @property
    def nbytes(self) -> int:
        """The bytes that it holds."""

    def get(self, key: str) -> KV | None:
        """The states under `key`, which count as used now; None when it has none."""

    def find(self, key: str) -> tuple[KV, str] | None:
        """What `get` gives, and the tier that had it."""

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        """What `find` gives for each of these keys that it has, looked for at once.

        Where `efforts` says what encoding a key takes, a tier may be left out that takes longer:
        then there is None in place of the states, with the name of that tier.
        """

    def holding(self, keys: Collection[str]) -> set[str]:
        """Which of these keys it has, as far as it knows without asking another machine."""

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv`, evicting what it can best do without. False when it cannot fit.

        What the key had is replaced: the same states, with other side tensors perhaps.
        """

    def delete(self, key: str) -> bool:
        """Forget `key`, pinned or not. False when it was not there."""

    def keys(self) -> list[str]:
        """Every key, in the order in which they would be evicted."""

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted, also when it is put later."""

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""

    def evict(self) -> int:
        """Give back the memory of all that is not pinned; the bytes that this freed.

        Memory ran out, or soon will: a tier forgets what it has in memory, and nothing else.
        """

    def check_integrity(self) -> None:
        """Assert that what it says of itself is true; for tests."""
