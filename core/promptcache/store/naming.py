"""Names of keys: which of them can be those of files, and which mean something to one process only.

Keys are made of letters, digits, "-" and "_", so that they can be names of files.
"""

from __future__ import annotations

import re

from promptcache.errors import StoreError

PRIVATE = "process-"
"""How keys begin that mean something to one process alone: a tier that outlives it keeps none."""
NAME = re.compile(r"[0-9A-Za-z_-]{1,200}")
"""What a key must be to be a file's name."""


def checked_name(key: str) -> str:
    """The key. StoreError for one that cannot be a file's name."""
    if not NAME.fullmatch(key):
        raise StoreError(f"the key {key!r} cannot be a file's name; expected letters and digits")
    return key


def is_kept(key: str) -> bool:
    """Whether a tier that outlives the process may have a file of this key."""
    return NAME.fullmatch(key) is not None and not key.startswith(PRIVATE)
