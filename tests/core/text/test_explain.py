from __future__ import annotations

import html
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from promptcache.errors import OptionError
from promptcache.text.recognize import Recognizer

FOX = "The quick brown fox jumps over the lazy dog."
LONG_FOX = FOX + " It does so twice a day."
OWL = "The owl & the <pussycat> went to sea,\nin a 'beautiful' pea-green boat."


def recognizer(**documents: str) -> Recognizer:
    found = Recognizer()
    for name, text in documents.items():
        found.add(name, text)
    return found


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (html.escape(OWL), "HTML-escaped"),
        (html.escape(OWL).replace("&#x27;", "&#39;"), "HTML-escaped"),
        (repr([OWL]), "repr-escaped"),
        (json.dumps({"text": OWL}), "escaped"),
        (" ".join(OWL.split()), "whitespace was changed"),
        (OWL.upper(), "upper and lower case"),
        (OWL.replace("\n", "\r\n"), "line ends"),
        (OWL[:50], "cut: 50 of its 70 characters"),
        (OWL[-41:], "cut: 41 of its 70 characters"),
        ("the boat " + OWL[3:-3] + " sank", "cut: 64 of its 70 characters"),
    ],
)
def test_a_spoiled_document_has_its_reason(sent: str, reason: str) -> None:
    assert len(OWL) == 70
    assert reason in str(recognizer(owl=OWL).explain(f"Use this: {sent}\nWho?", "owl"))


def test_a_document_under_another_has_its_reason() -> None:
    found = recognizer(fox=FOX, long=LONG_FOX)
    assert found.explain(LONG_FOX, "fox") == "its text is part of another document's here: long"


def test_a_document_that_is_there_or_quite_absent_has_no_reason() -> None:
    found = recognizer(owl=OWL)
    assert found.explain(f"x {OWL} y", "owl") is None
    assert found.explain("Something else altogether, without any bird.", "owl") is None
    with pytest.raises(OptionError, match="no document 'owl2'; did you mean 'owl'"):
        found.explain("", "owl2")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=200), st.text(min_size=1, max_size=120))
def test_a_reason_is_asked_for_any_text_without_harm(text: str, document: str) -> None:
    found = Recognizer()
    if document.strip() and found.add("d", document):
        assert found.explain(text + document, "d") is None
        found.explain(text, "d")
