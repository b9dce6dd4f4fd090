"""Archives of attention states: modules of a folder in one file, and back, each one checked.

An archive is a plain tar: a manifest, and the folder's files as they are. What is read is trusted
in nothing: of tar there is one kind of entry and one kind of name, a file is read through, in
memory, before the store has it, the store writes it anew, and nothing is ever run.
"""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tarfile import BLOCKSIZE
from typing import BinaryIO

import torch

from promptcache.errors import StoreError
from promptcache.store import DiskStore, default_budget, states
from promptcache.store.folder import SUFFIX
from promptcache.store.format import DamagedFileError
from promptcache.store.naming import is_kept
from promptcache.store.whole import write_whole

MANIFEST = "manifest.json"
FORMAT = "promptcache archive"
VERSION = "1"
MODULES = "modules"
MANIFEST_LIMIT = 64 * 2**20
"""Bytes of a manifest: half a million modules."""
FILE_LIMIT = 8**11
"""Bytes that a tar can say a file has."""
NAME_LIMIT = 100
CHUNK = 2**20

Advance = Callable[[int], object]
"""Hears how many bytes more are done."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one module: `reason` says why it was left out, and is None if it was not."""

    key: str
    nbytes: int
    reason: str | None = None


def write(store: DiskStore, keys: Sequence[str], path: Path, advance: Advance) -> list[Taken]:
    """Write an archive of the modules of these keys, for its owner alone (0600), or nothing.

    Each file is read through first; damaged ones are set aside, and left out. Raises OSError.
    """
    taken: list[Taken] = []

    def fill(file: BinaryIO) -> None:
        room = _manifest(dict.fromkeys(keys, FILE_LIMIT))
        if len(room) > MANIFEST_LIMIT:
            raise StoreError(f"{len(keys):,} modules are too many for one archive")
        _begin(file, MANIFEST, len(room), 0)
        file.write(room)
        taken.extend(_written(store, key, file, advance) for key in keys)
        file.write(bytes(2 * BLOCKSIZE))
        file.seek(BLOCKSIZE)
        listed = _manifest({each.key: each.nbytes for each in taken if each.reason is None})
        file.write(listed.ljust(len(room)))

    write_whole(path, ".unfinished", fill)
    return taken


def read(path: Path, store: DiskStore, advance: Advance) -> Iterator[Taken]:
    """Put every module of an archive into a store, one after another, as far as its budget allows.

    A file that is damaged is left out; what the store has already stays as it is. Raises
    StoreError for what is no archive, and, behind the modules before it, for anything that no
    export writes; OSError for what cannot be read.
    """
    with path.open("rb") as file:
        missing = _listed(file)
        while (entry := _next(file, missing)) is not None:
            key, nbytes = entry
            yield Taken(key, nbytes, _read(file, key, nbytes, store))
            advance(missing.pop(key))
            file.seek(-nbytes % BLOCKSIZE, os.SEEK_CUR)
    if missing:
        raise StoreError(f"the archive {str(path)!r} lacks {len(missing)} of the modules it lists")


def _manifest(sizes: Mapping[str, int]) -> bytes:
    told = {FORMAT: VERSION, MODULES: sizes}
    text = json.dumps(told, separators=(",", ":")).encode()
    return text.ljust(-(-len(text) // BLOCKSIZE) * BLOCKSIZE)


def _begin(file: BinaryIO, name: str, nbytes: int, used: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = nbytes, 0o600, used
    file.write(entry.tobuf(tarfile.USTAR_FORMAT, "ascii"))


def _written(store: DiskStore, key: str, file: BinaryIO, advance: Advance) -> Taken:
    """Append the file of a key, if it is whole."""
    try:
        with store.folder.path_of(key).open("rb") as source:
            state = os.fstat(source.fileno())
            nbytes, reason = state.st_size, store.verify(key)
            if nbytes >= FILE_LIMIT or len(key + SUFFIX) > NAME_LIMIT:
                reason = "has a name or a size that a tar cannot hold"
            if reason is None:
                _begin(file, key + SUFFIX, nbytes, int(state.st_mtime))
                shutil.copyfileobj(source, file, CHUNK)
                file.write(bytes(-nbytes % BLOCKSIZE))
    except FileNotFoundError:
        return Taken(key, 0, "was removed meanwhile")
    advance(nbytes)
    return Taken(key, nbytes, reason)


def _listed(file: BinaryIO) -> dict[str, int]:
    """The bytes of each module that the manifest lists. StoreError where there is none."""
    what = f"{file.name!r} is no archive of promptcache"
    entry = _entry(file)
    if entry is None or entry.name != MANIFEST or entry.size > MANIFEST_LIMIT:
        raise StoreError(f"{what}: it does not begin with {MANIFEST}")
    try:
        told = json.loads(file.read(entry.size))
        version, modules = told[FORMAT], dict(told[MODULES])
    except (ValueError, LookupError, TypeError, RecursionError):
        raise StoreError(f"{what}: its manifest cannot be read") from None
    if version != VERSION:
        raise StoreError(f"{file.name!r} has format {version!r:.80}, where {VERSION!r} is read")
    for key, nbytes in modules.items():
        if (
            not isinstance(key, str)
            or not is_kept(key)
            or not isinstance(nbytes, int)
            or nbytes < 0
        ):
            raise StoreError(f"{what}: its manifest lists {key!r:.80} with {nbytes!r:.80} bytes")
    file.seek(-entry.size % BLOCKSIZE, os.SEEK_CUR)
    return modules


def _next(file: BinaryIO, expected: Mapping[str, int]) -> tuple[str, int] | None:
    """The next module's key and size. StoreError unless it is one that is still expected."""
    entry = _entry(file)
    if entry is None:
        return None
    key = entry.name.removesuffix(SUFFIX)
    if entry.name != key + SUFFIX or expected.get(key) != entry.size:
        raise StoreError(
            f"the archive {file.name!r} holds {entry.name!r:.80} with {entry.size:,} bytes, which "
            "its manifest does not list, or lists once only; nothing behind it was read"
        )
    return key, entry.size


def _entry(file: BinaryIO) -> tarfile.TarInfo | None:
    """The next entry of a tar, or None at its end. StoreError for any but a plain, whole file."""
    block = file.read(BLOCKSIZE)
    if block == bytes(BLOCKSIZE):
        return None
    try:
        entry = tarfile.TarInfo.frombuf(block, "ascii", "strict")
    except (tarfile.HeaderError, ValueError):
        raise StoreError(f"{file.name!r} is no whole archive of promptcache") from None
    if entry.type != tarfile.REGTYPE:
        raise StoreError(
            f"the archive {file.name!r} holds {entry.name!r:.80}, which is no plain file; nothing "
            "behind it was read"
        )
    if not 0 <= entry.size <= os.fstat(file.fileno()).st_size - file.tell():
        raise StoreError(f"the archive {file.name!r} is cut short in {entry.name!r:.80}")
    return entry


def _read(file: BinaryIO, key: str, nbytes: int, store: DiskStore) -> str | None:
    """Put the next bytes of an archive into the store as the module they are; why not, if not."""
    end = file.tell() + nbytes
    try:
        if store.folder.path_of(key).exists():
            return None
        if nbytes > store.budget:
            return f"has {nbytes:,} bytes, more than the budget of {store.budget:,}"
        if nbytes > default_budget(torch.device("cpu")):
            return f"has {nbytes:,} bytes, more than a quarter of this machine's memory"
        kv = states.decoded(file.read(nbytes), key)
        return None if store.put(key, kv) else "was not kept: there is no room for it"
    except DamagedFileError as error:
        return str(error)
    finally:
        file.seek(end)
