"""Names that PML accepts, for modules, collections and schemas that come from templates."""

from __future__ import annotations

from hashlib import blake2b
from itertools import count
from re import sub

from promptcache.pml.checks import RESERVED
from promptcache.pml.tree import Node


class Names:
    """Names that are each given once; one that is taken gets a number."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, wanted: str) -> str:
        """A name that PML accepts and that nothing has yet, as near to `wanted` as can be."""
        first = name = element(wanted)
        for number in count(2):
            if name not in self._taken:
                break
            name = f"{first}-{number}"
        self._taken.add(name)
        return name


def element(text: str) -> str:
    """A name that PML accepts, as near to `text` as can be."""
    name = sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "document"
    return f"_{name}" if name[0].isdigit() or name in RESERVED else name


def digest(children: tuple[Node, ...]) -> str:
    """Tells apart the schemas of templates that nobody named."""
    return blake2b(repr(children).encode(), digest_size=4).hexdigest()
