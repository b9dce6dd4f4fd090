"""A file that is written whole or not at all: under another name, to the disk, then renamed."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from tempfile import mkstemp
from typing import BinaryIO


def write_whole(path: Path, unfinished: str, fill: Callable[[BinaryIO], None]) -> None:
    """Let `fill` write a file, for its owner alone (0600), in place of the one that is there.

    Until it is whole its name ends in `unfinished`. Raises what `fill` does, and OSError; nothing
    of it is left then.
    """
    handle, name = mkstemp(unfinished, dir=path.parent)
    try:
        with open(handle, "wb") as file:
            fill(file)
            file.flush()
            os.fsync(handle)
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink()
        raise


def to_disk(folder: Path) -> None:
    """Have a folder's own entries written to the disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
