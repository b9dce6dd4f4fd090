"""How right an answer is: exact match, and LongBench's metrics of it, each from 0 to 1.

LongBench (Bai et al., ACL 2024) takes the best of several right answers, and its mean over prompts.
Where its definition is a library's, that library's arithmetic is repeated here: ROUGE-L is that of
`rouge` 1.0.1, edit similarity the ratio of `fuzzywuzzy` on Python's own `difflib`.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

Metric = Callable[[str, str, Sequence[str]], float]
"""An answer, a right one, and the classes that there are, where there are some, to a score."""

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NUMBER = re.compile(r"\d+")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_EPSILON = 1e-8


def exact_match(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """1 for the very same text, white space at its ends aside."""
    del classes
    return float(answer.strip() == right.strip())


def f1(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """F1 of the words of two texts, without case, punctuation and articles."""
    del classes
    said, wanted = _words(answer), _words(right)
    common = (Counter(said) & Counter(wanted)).total()
    return 2 * common / (len(said) + len(wanted)) if common else 0.0


def rouge_l(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """F of the distinct words on longest common subsequences of the sentences of two texts."""
    del classes
    said, wanted = _sentences(answer), _sentences(right)
    if not said or not wanted:
        return 0.0
    common: set[str] = set()
    for sentence in wanted:
        for other in said:
            common |= _longest_common(sentence, other)
    precision = len(common) / len({word for sentence in said for word in sentence})
    recall = len(common) / len({word for sentence in wanted for word in sentence})
    return 2 * precision * recall / (precision + recall + _EPSILON)


def accuracy(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """1 for an answer that names the right class alone, shared between all that it names.

    A class whose name is a part of the right one's does not count as named.
    """
    named = [name for name in classes if name in answer and (name == right or name not in right)]
    return 1 / len(named) if right in named else 0.0


def edit_similarity(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """How alike the right line of code and the answer's first are; comments are passed over."""
    del classes
    lines = answer.lstrip("\n").split("\n")
    code = (line for line in lines if not any(mark in line for mark in ("`", "#", "//")))
    ratio = SequenceMatcher(None, next(code, ""), right).ratio()
    return round(100 * ratio) / 100


def count(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """The share of the numbers in an answer that are the right one."""
    del classes
    numbers = _NUMBER.findall(answer)
    return numbers.count(right.strip()) / len(numbers) if numbers else 0.0


def retrieval(answer: str, right: str, classes: Sequence[str] = ()) -> float:
    """The share of the numbers in an answer that are the one in the right answer."""
    wanted = _NUMBER.search(right)
    return count(answer, wanted[0], classes) if wanted else 0.0


def best(metric: Metric, answer: str, right: Sequence[str], classes: Sequence[str] = ()) -> float:
    """The score by the right answer that the answer is nearest to."""
    return max((metric(answer, each, classes) for each in right), default=0.0)


def first_line(answer: str) -> str:
    """What LongBench keeps of answers to few-shot prompts: models go on with more examples."""
    return answer.lstrip("\n").partition("\n")[0]


def _words(text: str) -> list[str]:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def _sentences(text: str) -> list[list[str]]:
    """The words of each sentence; one of white space alone has an empty word, as in `rouge`."""
    return [" ".join(part.split()).split(" ") for part in text.split(".") if part]


def _longest_common(wanted: Sequence[str], said: Sequence[str]) -> set[str]:
    """The words on a longest common subsequence; of several, the one that `rouge` finds."""
    lengths = [[0] * (len(said) + 1) for _ in range(len(wanted) + 1)]
    for i, word in enumerate(wanted, 1):
        for j, other in enumerate(said, 1):
            longer = max(lengths[i - 1][j], lengths[i][j - 1])
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if word == other else longer
    found: set[str] = set()
    i, j = len(wanted), len(said)
    while i and j:
        if wanted[i - 1] == said[j - 1]:
            found.add(wanted[i - 1])
            i, j = i - 1, j - 1
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
    return found
