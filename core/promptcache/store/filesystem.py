"""A folder at a URL, through fsspec: whole objects by name, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, BinaryIO

from promptcache.errors import OptionError, StoreError, valid
from promptcache.store.forks import after_fork
from promptcache.store.whole import write_whole

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
"""The extras that file systems need, by their names in URLs; others need `remote`."""
AT_ONCE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "memory"}
"""File systems on which an object is there whole or not there; on others it is renamed."""
LOCAL = {"file", "local"}
"""Folders of this machine, whose files are for their owner alone, as those of the disk tier are."""
UNFINISHED = ".kv.unfinished"


class FileSystem:
    """The objects of one folder at a URL. Raises whatever the file system behind it does."""

    def __init__(self, url: str, options: Mapping[str, Any]) -> None:
        self._at_once = url.partition("://")[0] in AT_ONCE
        self._local = url.partition("://")[0] in LOCAL
        self._fs, root = _opened(url, options)
        self._root = root.rstrip("/")
        self.name: str = self._fs.unstrip_protocol(root)
        """The URL, without what is secret in it."""
        self._given = url, options
        after_fork(self._renew)

    def _renew(self) -> None:
        """Connect anew: no process can use the connections of another."""
        self._fs, _ = _opened(*self._given)

    def read(self, name: str, most: int | None = None) -> bytes:
        """An object's bytes, at most so many of the first ones. Raises FileNotFoundError."""
        data: bytes = self._fs.cat_file(self._path(name), start=0 if most else None, end=most)
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write an object, in place of what has its name."""
        if self._at_once:
            self._fs.pipe_file(self._path(name), data)
            return
        if self._local:
            os.makedirs(self._root, mode=0o700, exist_ok=True)
            write_whole(Path(self._path(name)), UNFINISHED, lambda file: _write(file, data))
            return
        self._fs.makedirs(self._root, exist_ok=True)
        unfinished = self._path(f".{token_hex(8)}{UNFINISHED}")
        try:
            self._fs.pipe_file(unfinished, data)
            self._fs.mv(unfinished, self._path(name))
        except BaseException:
            with suppress(Exception):  # what went wrong first is what there is to say
                self._fs.rm_file(unfinished)
            raise

    def move(self, name: str, folder: str) -> None:
        """Move an object into a folder within."""
        if self._local:
            os.makedirs(self._path(folder), mode=0o700, exist_ok=True)
        self._fs.makedirs(self._path(folder), exist_ok=True)
        self._fs.mv(self._path(name), self._path(f"{folder}/{name}"))

    def delete(self, name: str) -> bool:
        """Remove an object. False when there was none."""
        try:
            self.read(name, 1)
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """The names in the folder."""
        self._fs.invalidate_cache()
        try:
            return [path.rpartition("/")[2] for path in self._fs.ls(self._root, detail=False)]
        except FileNotFoundError:
            return []

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _opened(url: str, options: Mapping[str, Any]) -> tuple[Any, str]:
    """The file system and the path on it. OptionError for a URL that nothing can open."""
    protocol = url.partition("://")[0]
    extra = EXTRAS.get(protocol, "remote")
    missing = f"store={url!r} needs the extra {extra!r}: pip install 'promptcache[{extra}]'"
    try:
        from fsspec.core import url_to_fs
        from fsspec.registry import known_implementations, registry
    except ImportError as error:
        raise OptionError(missing) from error
    known = {*known_implementations, *registry}
    if protocol not in known:
        raise OptionError(f"store={url!r} is at no known place{valid(protocol, known)}")
    try:
        fs, path = url_to_fs(url, **options)
    except ImportError as error:
        more = missing if protocol in EXTRAS else f"{missing}, and what it asks for: {error}"
        raise OptionError(more) from error
    except (OSError, ValueError, TypeError) as error:
        raise StoreError(f"attention states cannot be kept in {protocol}://: {error}") from error
    return fs, str(path)
