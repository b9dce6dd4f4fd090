"""What the modules are called that LangChain's documents become in a schema."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from langchain_core.documents import Document

from langchain_promptcache.documents import DocumentSource, documents_of, text_of
from promptcache.pml import Module, Text
from promptcache.templates import Names

NAMED_BY = ("title", "source", "id")
"""The metadata that a document's module is called after."""


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
