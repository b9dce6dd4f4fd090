from __future__ import annotations

import random
import statistics
import time
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from promptcache.bench.recognise import PROMPT_CHARS, Row, distinct, measure, near, table
from promptcache.errors import OptionError, PromptError
from promptcache.segments import Kind, joined
from promptcache.text.recognize import AGAIN, PART, Match, Recognizer
from promptcache.text.trie import GRAM

FOX = "The quick brown fox jumps over the lazy dog."
LONG_FOX = FOX + " It does so twice a day."
OWL = "The owl & the <pussycat> went to sea,\nin a 'beautiful' pea-green boat."


def recognizer(**documents: str) -> Recognizer:
    found = Recognizer()
    for name, text in documents.items():
        found.add(name, text)
    return found


def names(found: Recognizer, text: str) -> list[str]:
    return [match.name for match in found.find(text)]


def test_documents_are_found_where_they_stand() -> None:
    text = f"Use this: {OWL}\n\n{FOX} Who?"
    found = recognizer(fox=FOX, owl=OWL).find(text)
    assert [(text[m.start : m.stop], m.name) for m in found] == [(OWL, "owl"), (FOX, "fox")]


def test_the_longest_document_at_a_place_wins() -> None:
    found = recognizer(fox=FOX, long=LONG_FOX)
    assert names(found, LONG_FOX) == ["long"]
    assert names(found, LONG_FOX[:-1]) == ["fox"]
    assert names(found, FOX + LONG_FOX) == ["fox", "long"]


def test_a_document_inside_another_is_found_where_the_other_is_not() -> None:
    found = recognizer(outer=f"before the fox: {FOX} after it", inner=FOX)
    assert names(found, f"before the fox: {FOX} after it, {FOX}") == ["outer", "inner"]
    assert names(found, f"before the fox: {FOX} after") == ["inner"]


def test_one_character_less_or_other_is_not_found() -> None:
    found = recognizer(fox=FOX)
    assert names(found, FOX[:-1]) == []
    assert names(found, FOX.replace("lazy", "Lazy")) == []


def test_a_text_under_two_names_is_one_document() -> None:
    found = Recognizer()
    assert [found.add("a", FOX), found.add("b", FOX), found.add("a", FOX)] == ["a", "a", "a"]
    assert (len(found), "b" in found) == (1, False)
    assert names(found, FOX) == ["a"]


def test_a_document_is_found_with_its_edges_stripped_too() -> None:
    found = recognizer(fox=f"  {FOX}\n")
    assert [m.stop - m.start for m in found.find(f"  {FOX}\n")] == [len(FOX) + 3]
    assert [m.stop - m.start for m in found.find(f"x {FOX}")] == [len(FOX)]


def test_an_exact_text_goes_before_anothers_stripped_form() -> None:
    found = recognizer(loose=FOX + "\n", exact=FOX)
    assert names(found, FOX + ".") == ["exact"]
    assert names(found, FOX + "\n.") == ["loose"]
    found.remove("exact")
    assert names(found, FOX + ".") == ["loose"]


@pytest.mark.parametrize("text", ["", " \n\t"])
def test_a_document_without_text_is_refused(text: str) -> None:
    with pytest.raises(PromptError, match="'blank' has no text"):
        Recognizer().add("blank", text)


def test_a_name_stands_for_one_text() -> None:
    found = recognizer(fox=FOX)
    with pytest.raises(OptionError, match="another text"):
        found.add("fox", OWL)
    assert found.remove("fox")
    assert not found.remove("fox")
    found.add("fox", OWL)
    assert names(found, FOX + OWL) == ["fox"]


def test_texts_too_short_to_mean_anything_are_not_looked_for() -> None:
    found = Recognizer()
    assert found.add("short", "a" * (GRAM - 1) + " ") is None
    assert found.add("enough", "b" * GRAM) == "enough"
    assert names(found, "a" * 40 + "b" * 20) == ["enough"]


def test_recognised_text_is_modules_and_the_text_between_them() -> None:
    text = f"{FOX}\n\n{OWL}Who?"
    segments = recognizer(fox=FOX, owl=OWL).recognise(text)
    assert joined(segments) == text
    assert [(s.kind, s.module) for s in segments] == [
        (Kind.MODULE, "fox"),
        (Kind.TEXT, None),
        (Kind.MODULE, "owl"),
        (Kind.TEXT, None),
    ]


def test_a_document_that_stands_twice_is_a_module_once() -> None:
    segments = recognizer(fox=FOX).recognise(f"{FOX}{FOX}")
    assert [(s.kind, s.note) for s in segments] == [(Kind.MODULE, None), (Kind.TEXT, AGAIN)]


PIECES = st.lists(st.sampled_from(["a", "b", "ab" * 8, "a" * GRAM, "b" * 20]), max_size=8)
TEXTS = PIECES.map("".join)


class AnyHistory(RuleBasedStateMachine):
    """Whatever was added and removed, what is found is what a plain search finds."""

    def __init__(self) -> None:
        super().__init__()
        self.found = Recognizer()
        self.texts: dict[str, str] = {}

    @rule(text=TEXTS.filter(lambda t: len(t) >= GRAM))
    def add(self, text: str) -> None:
        name = f"name of {text}"
        assert self.found.add(name, text) == name
        self.texts[text] = name

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.texts:
            text = data.draw(st.sampled_from(sorted(self.texts)))
            assert self.found.remove(self.texts.pop(text))

    @rule(text=st.lists(TEXTS, max_size=3).map("".join))
    def find(self, text: str) -> None:
        expected = []
        at = 0
        while at < len(text):
            here = [t for t in self.texts if text.startswith(t, at)]
            if here:
                longest = max(here, key=len)
                expected.append(Match(at, at + len(longest), self.texts[longest]))
                at += len(longest)
            else:
                at += 1
        assert self.found.find(text) == expected

    @invariant()
    def nothing_is_left_of_what_was_removed(self) -> None:
        assert len(self.found) == len(self.texts)
        if not self.texts:
            assert not self.found._trie._roots


AnyHistory.TestCase.settings = settings(
    max_examples=60, stateful_step_count=20, deadline=None, derandomize=True
)
TestAnyHistory = AnyHistory.TestCase


def test_threads_find_what_is_there_while_others_add_and_remove() -> None:
    rng = random.Random(1)
    documents = near(400, rng)
    found = Recognizer()
    for i, document in enumerate(documents[:100]):
        found.add(f"kept-{i}", document)
    prompt = "\n\n".join(documents[:4])
    wrong: list[object] = []
    done = False

    def search() -> None:
        while not done:
            if (seen := names(found, prompt)) != [f"kept-{i}" for i in range(4)]:
                wrong.append(seen)

    readers = [Thread(target=search) for _ in range(3)]
    for reader in readers:
        reader.start()
    for _ in range(2):
        for i, document in enumerate(documents[100:]):
            found.add(f"passing-{i}", document)
        for i in range(len(documents) - 100):
            found.remove(f"passing-{i}")
    done = True
    for reader in readers:
        reader.join()
    assert not wrong


@pytest.mark.parametrize("make", [distinct, near])
def test_ten_thousand_documents_are_registered_and_searched_fast(make: object) -> None:
    rng = random.Random(0)
    documents = make(10_050, rng)  # type: ignore[operator]
    found = Recognizer()
    start = time.process_time()
    for i, document in enumerate(documents[:10_000]):
        found.add(str(i), document)
    assert time.process_time() - start < 3
    prompt = "\n\n".join(documents[9_996:10_004])[:PROMPT_CHARS]
    times = []
    for _ in range(15):
        start = time.process_time()
        segments = found.recognise(prompt)
        times.append(time.process_time() - start)
        assert sum(segment.kind is Kind.MODULE for segment in segments) == 4
    assert statistics.median(times) < 5e-3


def test_the_benchmark_makes_a_row_per_library() -> None:
    row = measure("near-matching", near, 50, prompts=3)
    assert isinstance(row, Row)
    assert 0 < row.found_per_prompt <= 4
    assert row.bytes_per_document < 2_000
    assert table([row]).row_count == 1


WORDS = ["alder", "birch", "cedar", "dogwood", "elm", "fir", "ginkgo", "hazel"]


@given(
    st.lists(st.lists(st.sampled_from(WORDS), min_size=14, max_size=24), min_size=1, max_size=5),
    st.integers(0, 4),
    st.booleans(),
    st.integers(20, 60),
)
def test_a_document_is_found_by_its_beginning_or_its_end(
    libraries: list[list[str]], chosen: int, begun: bool, lost: int
) -> None:
    texts = [f"{number} {' '.join(words)} {number}" for number, words in enumerate(libraries)]
    recognizer = Recognizer()
    for number, text in enumerate(texts):
        recognizer.add(str(number), text)
    text = texts[chosen % len(texts)]
    part = text[:-lost] if begun else text[lost:]
    found = recognizer.in_part(f"|{part}|")  # a space around it could be one of the document's
    assert (str(chosen % len(texts)) in found) == (len(part) >= PART)
    recognizer.remove(str(chosen % len(texts)))
    assert str(chosen % len(texts)) not in recognizer.in_part(f"|{part}|")


def test_of_documents_that_share_a_long_beginning_the_one_that_is_there_is_named() -> None:
    recognizer = Recognizer()
    shared = "This chapter is about the museums of the region and its towns. "
    for number in range(5):
        recognizer.add(str(number), f"{shared}Chapter {number} tells of museum {number}. " * 2)
    part = f"{shared}Chapter 3 tells of museum 3."
    assert recognizer.in_part(part) == ["3"]
