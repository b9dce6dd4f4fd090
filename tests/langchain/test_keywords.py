"""Keywords: which texts share most words with a question, as texts come and go."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from langchain_promptcache.keywords import Keywords

WORDS = st.lists(st.sampled_from("abcde"), max_size=6).map(" ".join)


def keywords(texts: dict[str, str]) -> Keywords:
    made = Keywords()
    for name, text in texts.items():
        made.add(name, text)
    return made


def test_rare_words_count_more_than_common_ones() -> None:
    found = keywords({"a": "the mill the mill", "b": "the mill", "c": "the viola"})
    assert found.best("the viola", 3) == ["c", "a", "b"]


def test_a_word_counts_more_in_a_short_text() -> None:
    found = keywords({"long": "viola " + "and other words " * 9, "short": "viola"})
    assert found.best("Viola?", 2) == ["short", "long"]


def test_texts_without_a_word_of_the_question_are_not_found() -> None:
    assert keywords({"a": "mill", "b": "", "c": "viola"}).best("viola zither", 3) == ["c"]
    assert Keywords().best("anything", 3) == []


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("xyz"), st.none() | WORDS), max_size=12),
    st.sampled_from(["a", "a b", "c d e"]),
)
def test_any_history_of_texts_finds_what_those_that_are_left_find(
    history: list[tuple[str, str | None]], question: str
) -> None:
    changed, left = Keywords(), dict[str, str]()
    for name, text in history:
        left.pop(name, None)
        if text is None:
            changed.remove(name)
        else:
            changed.add(name, text)
            left[name] = text
    assert changed.best(question, 3) == keywords(left).best(question, 3)
