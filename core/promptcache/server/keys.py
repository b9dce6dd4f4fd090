"""Which namespace an API key belongs to: a file that has only hashes of keys.

Keys are 256 random bits, so a plain SHA-256 of one tells nobody what it is, and the file is of no
use to who reads it. Who can write to it can add a key.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from pathlib import Path

from promptcache.errors import OptionError

NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LINE = re.compile(rf"({NAMESPACE.pattern})\s+sha256:([0-9a-f]{{64}})")
_NAMES = "letters, digits, '.', '_' and '-', 64 at most"


class Keys:
    """The keys that a server knows, as they were in a file when it was read."""

    def __init__(self, hashed: Sequence[tuple[str, str]]) -> None:
        """`hashed` are namespaces with the hexadecimal SHA-256 of a key each."""
        self._hashed = tuple(hashed)

    @classmethod
    def read(cls, path: Path) -> Keys:
        """The keys of a file with lines `NAMESPACE sha256:HASH`; `#` begins a remark.

        Raises OptionError for a file that cannot be read, has another line, or has no key.
        """
        try:
            lines = path.expanduser().read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise OptionError(f"the keys file {str(path)!r} cannot be read: {error}") from None
        hashed = []
        for number, line in enumerate(lines, start=1):
            said = line.partition("#")[0].strip()
            if not said:
                continue
            found = _LINE.fullmatch(said)
            if found is None:
                raise OptionError(
                    f"line {number} of the keys file {str(path)!r} is not NAMESPACE sha256:HASH; "
                    "`promptcache key FILE NAMESPACE` adds a key"
                )
            hashed.append((found[1], found[2]))
        if not hashed:
            raise OptionError(
                f"the keys file {str(path)!r} has no key; `promptcache key FILE NAMESPACE` adds one"
            )
        return cls(hashed)

    @property
    def namespaces(self) -> list[str]:
        """Every namespace that has a key."""
        return sorted({namespace for namespace, _ in self._hashed})

    def namespace_of(self, key: str) -> str | None:
        """The namespace of a key, None for an unknown one; as slow for the one as for the other."""
        given = sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
        found = None
        for namespace, hashed in self._hashed:
            if compare_digest(hashed, given):
                found = namespace
        return found


def add_key(path: Path, namespace: str) -> str:
    """Add a new key to a file, which is made where there is none; the key, which is nowhere else.

    Raises OptionError for a namespace that is no name, or a file that cannot be written.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise OptionError(f"the namespace {namespace!r} is not a name (valid: {_NAMES})")
    key = f"pc-{secrets.token_urlsafe(32)}"
    line = f"{namespace} sha256:{sha256(key.encode()).hexdigest()}\n"
    try:
        file = os.open(path.expanduser(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(file, "w") as out:
            out.write(line)
    except OSError as error:
        raise OptionError(f"the keys file {str(path)!r} cannot be written: {error}") from None
    return key
