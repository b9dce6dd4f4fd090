"""What a tier of the store must do. Keys are opaque names; a key's keys and values never change.

Keys are made of letters, digits, "-" and "_", so that they can be names of files.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from promptcache.kv import KV

PRIVATE = "process-"
"""How keys begin that mean something to one process alone: a tier that outlives it keeps none."""


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

    def put(self, key: str, kv: KV) -> bool:
        """Keep `kv`, evicting what was not used for longest. False when it cannot fit.

        What the key had is replaced: the same states, with other side tensors perhaps.
        """

    def delete(self, key: str) -> bool:
        """Forget `key`, pinned or not. False when it was not there."""

    def keys(self) -> list[str]:
        """Every key, least recently used first."""

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
