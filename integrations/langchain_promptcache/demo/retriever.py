"""A retriever that needs no download: BM25 over words.

Good enough for a few hundred documents; any other LangChain retriever takes its place.
"""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

from langchain_promptcache.keywords import Keywords


class KeywordRetriever(BaseRetriever):
    """The `k` documents that share most with a question, rare words counting more."""

    documents: list[Document]
    k: int = 4
    _keywords: Keywords = PrivateAttr(default_factory=Keywords)

    def model_post_init(self, context: Any) -> None:
        """Count every document's words, once."""
        for place, document in enumerate(self.documents):
            self._keywords.add(str(place), document.page_content)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        return [self.documents[int(place)] for place in self._keywords.best(query, self.k)]
