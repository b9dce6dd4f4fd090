"""Documents, as LangChain hands them about, -> the texts that the engine keeps."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol, runtime_checkable

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import BaseDocumentTransformer, Document

from promptcache.errors import OptionError, PromptError, kind_of

DocumentSource = BaseLoader | Iterable[Document | str]
"""A loader, which is read lazily, or documents or texts."""


@runtime_checkable
class SplitsText(Protocol):
    """A splitter of texts, such as LangChain's MarkdownHeaderTextSplitter."""

    def split_text(self, text: str) -> Sequence[Document | str]:
        """The parts of a text."""


Splitter = BaseDocumentTransformer | SplitsText
"""What takes a document apart: any text splitter of LangChain's, or a document transformer."""


def texts_of(source: DocumentSource, splitter: Splitter | None = None) -> Iterable[str]:
    """The texts of the documents; a sequence when the source is one, so that it has a length.

    With a splitter, the texts of their parts, each document read and split when its turn comes.
    Raises PromptError, now or while iterating, for what is not a document, and OptionError for
    what is not a splitter.
    """
    documents = documents_of(source)
    if splitter is not None:
        return _parts_of(documents, checked_splitter(splitter))
    if isinstance(documents, Sequence):
        return [text_of(document) for document in documents]
    return map(text_of, documents)


def documents_of(source: DocumentSource) -> Iterable[Document | str]:
    """What the source holds. Raises PromptError for what is no source of documents."""
    if isinstance(source, BaseLoader):
        return source.lazy_load()
    if isinstance(source, str | Document | Mapping) or not isinstance(source, Iterable):
        raise PromptError(
            f"documents is {kind_of(source)}; expected a loader, or a list of documents or texts"
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
        raise PromptError(f"a document is {kind_of(text)}; expected a Document or a text")
    return text.strip()


def checked_splitter(splitter: object) -> Splitter:
    """The splitter itself. Raises OptionError for what is none."""
    if isinstance(splitter, type) or not isinstance(splitter, BaseDocumentTransformer | SplitsText):
        raise OptionError(
            f"splitter={splitter!r:.80} cannot split documents; expected a text splitter of "
            "LangChain's, or another document transformer"
        )
    return splitter


def _parts_of(documents: Iterable[Document | str], splitter: Splitter) -> Iterator[str]:
    for document in documents:
        if isinstance(splitter, BaseDocumentTransformer):
            whole = document if isinstance(document, Document) else Document(text_of(document))
            yield from map(text_of, splitter.transform_documents([whole]))
        else:
            yield from map(text_of, splitter.split_text(text_of(document)))
