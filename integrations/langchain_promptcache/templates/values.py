"""What a document variable may be given."""

from __future__ import annotations

from langchain_core.documents import Document

from langchain_promptcache.documents import text_of
from promptcache.errors import PromptError, kind_of


def texts_given(given: object, variable: str) -> list[str]:
    """The texts of the documents, with the white space at their edges.

    Raises PromptError for what is neither documents nor texts.
    """
    documents = [given] if isinstance(given, Document) else given
    if not isinstance(documents, list | tuple):
        raise PromptError(
            f"{variable!r} is {kind_of(given)}; expected documents or texts, or one text "
            "that holds them"
        )
    for document in documents:
        text_of(document)  # refuses what is neither
    return [d.page_content if isinstance(d, Document) else d for d in documents]
