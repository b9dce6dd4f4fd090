"""Which file it is that was read: another one, or one that was written to since, is not it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Identity(NamedTuple):
    """A file as it was at one moment, by what the file system says of it."""

    device: int
    inode: int
    nbytes: int
    written: int
    """When it was last written to, or counted as used, in nanoseconds since 1970."""

    @classmethod
    def of(cls, file: int | Path) -> Identity:
        """That of an open file by its descriptor, or of what has a name now. Raises OSError."""
        state = os.stat(file)
        return cls(state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)

    def is_same_file(self, other: Identity) -> bool:
        """Whether both are one file, used or written to in between perhaps."""
        return (self.device, self.inode) == (other.device, other.inode)
