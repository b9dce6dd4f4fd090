"""Which files lie in a folder: how large they are, and when they were used."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from promptcache.store.naming import is_kept


@dataclass(slots=True)
class File:
    """A file: its bytes, and when it was last used, in nanoseconds since 1970.

    One of twice the weight may be unused for twice as long; 0 is one that was not weighed yet.
    """

    nbytes: int
    used: int
    weight: float = 0.0


def keyed_in(folder: Path, suffix: str) -> dict[str, File]:
    """The files in a folder whose names are a key's and end so, by name. Raises OSError."""
    found = files_in(folder, suffix)
    return {name: found[name] for name in found if is_kept(name.removesuffix(suffix))}


def files_in(folder: Path, suffix: str) -> dict[str, File]:
    """The files in a folder whose names end so, by name; none where there is no folder.

    Raises OSError where it cannot be read: that is not the same as empty.
    """
    found = {}
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # gone meanwhile
                if entry.name.endswith(suffix) and entry.is_file():
                    state = entry.stat()
                    found[entry.name] = File(state.st_size, state.st_mtime_ns)
    return found
