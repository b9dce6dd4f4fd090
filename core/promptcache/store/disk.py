"""The disk tier: attention states in a folder, for later processes and for those at this time."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import partial
from pathlib import Path

from promptcache.errors import OptionError, StoreError, valid
from promptcache.kv import KV
from promptcache.store import format as files
from promptcache.store import states
from promptcache.store.budget import checked_budget, default_disk_budget
from promptcache.store.compression import packed
from promptcache.store.folder import DAMAGED, Folder
from promptcache.store.format import DamagedFileError
from promptcache.store.host import on_host
from promptcache.store.identity import Identity
from promptcache.store.naming import PRIVATE, checked_name
from promptcache.store.protocol import NO_EFFORTS, Effort
from promptcache.store.recent import Recent
from promptcache.store.told import Told
from promptcache.store.weighing import Weights

log = logging.getLogger("promptcache")


class Verify(StrEnum):
    """When the bytes of a file are held against its checksum."""

    FIRST = "first"
    ALWAYS = "always"
    NEVER = "never"


class DiskStore:
    """Keeps at most `budget` bytes of attention states in a folder, a safetensors file per key.

    `budget` is by default a quarter of what the disk has free. Processes may share the folder:
    each finds what the others wrote, and none writes beyond its own budget. A file is written
    whole or not at all, read through before this process first trusts it (`verify="first"`; or
    "always", or "never"), and mapped into memory. One that is not what its name says is moved to
    the folder `damaged` within, reported once, and missing from then on. A disk that is full,
    read-only or gone fails no request: nothing is kept then, and a warning says so once.

    Pins hold in this process. What belongs to one process (`PRIVATE`) is not kept. A folder that
    is not there is made, for its owner alone (0700), as its files are (0600). Raises StoreError
    for one that cannot be made or is none, BudgetError for a budget that is no positive number of
    bytes, OptionError for another `verify`.
    """

    tier = "disk"

    def __init__(
        self, folder: str | Path, budget: int | None = None, *, verify: str = Verify.FIRST
    ) -> None:
        if verify not in list(Verify):
            raise OptionError(f"verify={verify!r} is none{valid(str(verify), list(Verify))}")
        path = Path(folder).expanduser()
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            most = default_disk_budget(path) if budget is None else checked_budget(budget, "disk")
        except OSError as error:
            raise StoreError(
                f"attention states cannot be kept in {str(path)!r}: {error.strerror}; expected a "
                "folder, or a place where one can be made"
            ) from error
        self._weights = Weights()
        self.folder = Folder(path, most, self._weigh)
        self._verify = Verify(verify)
        self._trusted: Recent[Identity] = Recent()
        self._told = Told()
        foreign: list[str] = []
        with suppress(OSError):
            foreign = self.folder.foreign()
        if foreign:
            log.warning(
                "%s has %d files whose names are those of no key, %r first; they are left alone",
                path,
                len(foreign),
                foreign[0],
            )

    @property
    def budget(self) -> int:
        """The bytes that it never exceeds."""
        return self.folder.budget

    @property
    def nbytes(self) -> int:
        """The bytes of all files in the folder, whoever wrote them."""
        return self.folder.nbytes

    def get(self, key: str) -> KV | None:
        """The states under `key`, memory-mapped, which count as used now for every process."""
        if key.startswith(PRIVATE):
            return None
        path = self.folder.path_of(checked_name(key))
        try:
            there = Identity.of(path)
            kv, seen = states.read(path, key, partial(self._trusts, key))
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            self._set_aside(key, there, error)
            return None
        except OSError as error:
            self._warn("read", error)
            return None
        self._use(key, seen)
        return kv

    def find(self, key: str) -> tuple[KV, str] | None:
        """The states under `key` and the name of this tier."""
        kv = self.get(key)
        return None if kv is None else (kv, self.tier)

    def find_all(
        self, keys: Iterable[str], efforts: Mapping[str, Effort] = NO_EFFORTS
    ) -> dict[str, tuple[KV | None, str]]:
        """What it has of these keys."""
        del efforts  # it is for who has several tiers to choose
        found = {key: self.get(key) for key in keys}
        return {key: (kv, self.tier) for key, kv in found.items() if kv is not None}

    def holding(self, keys: Collection[str]) -> set[str]:
        """Which of these keys it has; they do not count as used."""
        return self.folder.files().keys() & keys

    def sizes(self, keys: Collection[str]) -> dict[str, int]:
        """The bytes of the file of each of these keys that it has."""
        files = self.folder.files()
        return {key: files[key].nbytes for key in keys if key in files}

    def put(self, key: str, kv: KV) -> bool:
        """Write `kv` to the disk, if pinned files leave room for it and the disk takes it."""
        if key.startswith(PRIVATE):
            return False
        path = self.folder.path_of(checked_name(key))
        if not states.can_be_kept(kv):
            self._warn("write", TypeError("states of this dtype have no name in a file"))
            return False
        parts = states.parts_of(on_host(packed(kv), pinned=False))
        told = files.about(key, kv.start, parts, kv.cost, kv.origin)
        if _says(path) == told and self.get(key) is not None:
            return True
        head = files.header(told, parts)
        try:
            return self.folder.write(
                key, files.size(head, parts), lambda file: files.write(file, head, parts)
            )
        except OSError as error:
            self._warn("write", error)
            return False

    def delete(self, key: str) -> bool:
        """Remove the file of `key`, and its pin in this process."""
        self.unpin(key)
        self._trusted.pop(key, None)
        try:
            return not key.startswith(PRIVATE) and self.folder.delete(checked_name(key))
        except OSError as error:
            self._warn("delete", error)
            return False

    def verify(self, key: str) -> str | None:
        """Read a file through, which does not count as use: what is wrong with it, or None.

        A damaged one is set aside, where that can be. Raises OSError for one that cannot be read.
        """
        path = self.folder.path_of(checked_name(key))
        try:
            there = Identity.of(path)
            states.read(path, key, lambda _: False)
        except FileNotFoundError:
            return None
        except DamagedFileError as error:
            with suppress(OSError):
                self.folder.set_aside(key, there)
            return str(error)
        return None

    def keys(self) -> list[str]:
        """Every key, least recently used by any process first."""
        return list(self.folder.files())

    def pin(self, key: str) -> None:
        """Keep `key` from being evicted by this process, also when it is put later."""
        self.folder.pinned.add(key)

    def unpin(self, key: str) -> None:
        """Let `key` be evicted again."""
        self.folder.pinned.discard(key)

    def evict(self) -> int:
        """Nothing: files take no memory that could be given back."""
        return 0

    def check_integrity(self) -> None:
        """Assert that what it counts is what lies in the folder, within the budget."""
        self.folder.check_integrity()

    def _weigh(self, key: str, nbytes: int) -> float:
        """What the file of a key is worth, by what its states cost to encode."""
        told = _says(self.folder.path_of(key)) or {}
        return self._weights.weight(files.cost_of(told), nbytes)

    def _trusts(self, key: str, file: Identity) -> bool:
        if self._verify is Verify.FIRST:
            return self._trusted.get(key) == file
        return self._verify is Verify.NEVER

    def _use(self, key: str, read: Identity) -> None:
        """Count a file as used now, and trust it as long as it stays what was read."""
        path = self.folder.path_of(key)
        with suppress(OSError):
            unchanged = Identity.of(path) == read
            self.folder.touch(key)
            used = Identity.of(path)
            if unchanged and used._replace(written=read.written) == read:
                self._trusted[key] = used

    def _set_aside(self, key: str, file: Identity, reason: DamagedFileError) -> None:
        path = self.folder.path_of(key)
        try:
            if self.folder.set_aside(key, file):
                log.warning("%s %s; it was moved to %s/", path, reason, DAMAGED)
        except OSError as error:
            self._told.once(str(path), f"{path} {reason}; it cannot be moved away: {error}")

    def _warn(self, what: str, error: Exception) -> None:
        """Say once for each kind of failure that the disk does not do what it should."""
        kind = f"{what} {getattr(error, 'errno', None)}"
        self._told.once(
            kind, f"cannot {what} attention states in {self.folder.path}: {error}; going on without"
        )


def _says(path: Path) -> dict[str, str] | None:
    """The metadata of a file, if there is a whole one."""
    try:
        return states.told_by(path)[0]
    except (OSError, DamagedFileError):
        return None
