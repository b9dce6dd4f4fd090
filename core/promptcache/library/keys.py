"""Content-addressed keys: all that a module's attention states depend on, in one name.

That is the model's fingerprint, the tenant's salt, the compression, the context and the module's
own tokens.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from types import MappingProxyType

from promptcache.layout import ModuleRun
from promptcache.model.fingerprint import Fingerprint
from promptcache.store.format import origin

FORMAT = 1
OWNER = 16
"""Bytes of the hash that says whose states these are."""
SHOWN = 4
"""Bytes of it that keys begin with."""


class Keys:
    """The keys of one model's modules for one tenant: the same in every process."""

    def __init__(self, fingerprint: Fingerprint, salt: str = "", compression: str = "") -> None:
        self._fingerprint = fingerprint
        self._parts = salt, compression

    def owner(self) -> bytes:
        """Whose states these are, `OWNER` bytes: a hash of the model as it is now, of the tenant
        and of the compression.

        It looks at every weight of the model, so a request asks once and hands it on.
        """
        owner = blake2b(digest_size=OWNER)
        for part in (str(FORMAT), self._fingerprint.current(), *self._parts):
            owner.update(f"{len(part.encode())}:{part};".encode())
        return owner.digest()

    def of(self, runs: Iterable[ModuleRun], owner: bytes | None = None) -> dict[ModuleRun, str]:
        """The key of each run, equal for equal content.

        It begins with the first bytes of its owner, so that a list of keys says what is whose.
        """
        owner = owner or self.owner()
        begun = blake2b(owner, digest_size=20)
        keys = {}
        for run in runs:
            digest = begun.copy()
            for tokens in run.identity:
                digest.update(f"{len(tokens)}:".encode() + array("q", tokens).tobytes())
            keys[run] = f"{owner[:SHOWN].hex()}-{digest.hexdigest()}"
        return keys

    def origins(self, runs: Iterable[ModuleRun]) -> dict[ModuleRun, Mapping[str, str]]:
        """What files say of these runs: the model as it is now, and their own tokens."""
        model = self._fingerprint.current()
        return {run: MappingProxyType(origin(model, run.ids)) for run in runs}

    def beginning(self) -> str:
        """What the keys of the model as it is now begin with."""
        return f"{self.owner()[:SHOWN].hex()}-"
