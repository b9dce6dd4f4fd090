"""A retriever that needs no download: BM25 over words.

Good enough for a few hundred documents; any other LangChain retriever takes its place.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log
from typing import Any

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import PrivateAttr

SATURATION = 1.5
"""How soon more of the same word stops to count (k1)."""
LENGTH = 0.75
"""How much long documents are held back (b)."""

_WORD = re.compile(r"\w+")


class KeywordRetriever(BaseRetriever):
    """The `k` documents that share most with a question, rare words counting more."""

    documents: list[Document]
    k: int = 4
    _words: list[Counter[str]] = PrivateAttr()
    _weights: dict[str, float] = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Count every document's words, once."""
        self._words = [Counter(_words_of(d.page_content)) for d in self.documents]
        seen_in = Counter(word for words in self._words for word in words)
        total = len(self.documents)
        self._weights = {w: log(1 + (total - n + 0.5) / (n + 0.5)) for w, n in seen_in.items()}

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun
    ) -> list[Document]:
        asked = set(_words_of(query))
        mean = sum(words.total() for words in self._words) / max(len(self._words), 1)
        scores = [self._score(asked, words, mean) for words in self._words]
        best = sorted(range(len(scores)), key=lambda i: -scores[i])
        return [self.documents[i] for i in best[: self.k]]

    def _score(self, asked: set[str], words: Counter[str], mean: float) -> float:
        long = SATURATION * (1 - LENGTH + LENGTH * words.total() / mean) if mean else 1.0
        shared = asked & words.keys()
        return sum(
            self._weights[w] * words[w] * (SATURATION + 1) / (words[w] + long) for w in shared
        )


def _words_of(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
