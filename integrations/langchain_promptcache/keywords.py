"""Which texts share most words with a question: BM25 over words.

Needs no download and no model. Good enough for some thousands of texts.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log

SATURATION = 1.5
"""How soon more of the same word stops to count (k1)."""
LENGTH = 0.75
"""How much long texts are held back (b)."""

_WORD = re.compile(r"\w+")


class Keywords:
    """Texts by name, with their words counted. Not safe to change from several threads."""

    def __init__(self) -> None:
        self._words: dict[str, Counter[str]] = {}
        self._seen_in: Counter[str] = Counter()
        """In how many texts each word is."""
        self._total = 0

    def add(self, name: str, text: str) -> None:
        """Count a text's words, in place of those of a text that had the name."""
        self.remove(name)
        words = Counter(_words_of(text))
        self._words[name] = words
        self._seen_in.update(words.keys())
        self._total += words.total()

    def remove(self, name: str) -> None:
        """Forget a text, if there is one of that name."""
        words = self._words.pop(name, None)
        if words is None:
            return
        self._total -= words.total()
        self._seen_in.subtract(words.keys())
        for word in words:
            if not self._seen_in[word]:
                del self._seen_in[word]

    def best(self, question: str, k: int) -> list[str]:
        """The names of at most `k` texts that share words with the question.

        Those that share most come first, rare words counting more, and the earlier of equals.
        """
        weights = {w: self._weight(w) for w in set(_words_of(question)) & self._seen_in.keys()}
        mean = self._total / max(len(self._words), 1)
        scores: dict[str, float] = {}
        for name, words in self._words.items():
            if shared := weights.keys() & words.keys():
                long = SATURATION * (1 - LENGTH + LENGTH * words.total() / mean)
                scores[name] = sum(
                    weights[w] * words[w] * (SATURATION + 1) / (words[w] + long) for w in shared
                )
        return sorted(scores, key=lambda name: -scores[name])[:k]

    def _weight(self, word: str) -> float:
        n = self._seen_in[word]
        return log(1 + (len(self._words) - n + 0.5) / (n + 0.5))


def _words_of(text: str) -> list[str]:
    return _WORD.findall(text.casefold())
