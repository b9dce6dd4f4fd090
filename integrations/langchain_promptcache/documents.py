"""Documents, as LangChain hands them about, -> the texts that the engine keeps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document

from promptcache.errors import PromptError

DocumentSource = BaseLoader | Iterable[Document | str]
"""A loader, which is read lazily, or documents or texts."""


def texts_of(source: DocumentSource) -> Iterable[str]:
    """The texts of the documents; a sequence when the source is one, so that it has a length.

    Raises PromptError, now or while iterating, for what is not a document.
    """
    if isinstance(source, BaseLoader):
        return map(text_of, source.lazy_load())
    if isinstance(source, str | Document) or not isinstance(source, Iterable):
        raise PromptError(
            f"documents is a {type(source).__name__}; expected a loader, or a list of documents "
            "or texts"
        )
    if isinstance(source, Sequence):
        return [text_of(document) for document in source]
    return map(text_of, source)


def text_of(document: Document | str) -> str:
    """What a chain sends of a document: its text.

    Without the white space at its edges, which chains, document prompts and chat templates change:
    it is left to the prompt, and the document is found all the same.
    """
    text = document.page_content if isinstance(document, Document) else document
    if not isinstance(text, str):
        raise PromptError(f"a document is a {type(text).__name__}; expected a Document or a text")
    return text.strip()
