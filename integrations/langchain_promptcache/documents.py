"""Documents, as LangChain hands them about, -> the texts that the engine keeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from promptcache.errors import PromptError

DocumentSource = BaseLoader | Iterable[Document | str]
"""A loader, which is read lazily, or documents or texts."""


def texts_of(source: DocumentSource) -> Iterable[str]:
    """The texts of the documents; a sequence when the source is one, so that it has a length.

    Raises PromptError, now or while iterating, for what is not a document.
    """
    documents = documents_of(source)
    if isinstance(documents, Sequence):
        return [text_of(document) for document in documents]
    return map(text_of, documents)


def documents_of(source: DocumentSource) -> Iterable[Document | str]:
    """What the source holds. Raises PromptError for what is no source of documents."""
    if isinstance(source, BaseLoader):
        return source.lazy_load()
    if isinstance(source, str | Document | Mapping) or not isinstance(source, Iterable):
        raise PromptError(
            f"documents is a {type(source).__name__}; expected a loader, or a list of documents "
            "or texts"
        )
    return source


def text_of(document: Document | str) -> str:
    """What a chain sends of a document: its text.

    Without the white space at its edges. A chat template that strips messages takes it from the
    last document alone, which would then have other tokens than those that were encoded; left to
    the prompt, it is part of no document.
    """
    text = document.page_content if isinstance(document, Document) else document
    if not isinstance(text, str):
        raise PromptError(f"a document is a {type(text).__name__}; expected a Document or a text")
    return text.strip()
