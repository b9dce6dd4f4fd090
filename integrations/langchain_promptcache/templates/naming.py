"""What modules, collections and schemas that come from templates are called."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import count
from pathlib import PurePath
from re import sub

from langchain_core.documents import Document

from langchain_promptcache.documents import DocumentSource, documents_of, text_of
from promptcache.pml import Module, Text
from promptcache.pml.checks import RESERVED
from promptcache.pml.tree import Node

NAMED_BY = ("title", "source", "id")
"""The metadata that a document's module is called after."""


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


def modules_of(documents: DocumentSource, names: Names) -> Iterator[Module]:
    """A module for each document that has text, called after what the document is."""
    for document in documents_of(documents):
        if (text := text_of(document)).strip():
            yield Module(names.new(_title(document)), (Text(text),))


def _title(document: Document | str) -> str:
    if isinstance(document, str):
        return "document"
    named = next((document.metadata[n] for n in NAMED_BY if document.metadata.get(n)), None)
    return PurePath(str(named or document.id or "document")).stem
