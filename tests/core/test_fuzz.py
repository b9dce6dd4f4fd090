"""Twenty thousand inputs that are made to break parsers: only errors of promptcache come of them.

`make fuzz` tries a million of them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from promptcache.errors import PMLSyntaxError, PromptCacheError
from promptcache.pml import parse_prompt, parse_schema
from support.fuzzing import HOSTILE, VALID, Fuzz

CHUNK = 5_000


@pytest.mark.parametrize("first", range(0, 20_000, CHUNK))
def test_markup_and_texts_of_all_kinds_are_read_or_refused(tmp_path: Path, first: int) -> None:
    fuzz = Fuzz(tmp_path)
    for number in range(first, first + CHUNK):
        fuzz.one(number)
    happened = fuzz.outcomes
    for outcome in ("a Schema", "a Prompt", "messages", "1 documents found", "2 documents found"):
        assert happened[outcome] > CHUNK // 100, "the inputs are too wild to get far"
    for refusal in ("PMLSyntaxError of parse_schema", "PMLReferenceError of resolve"):
        assert happened[refusal] > CHUNK // 100


def test_the_inputs_that_others_are_made_of_are_what_they_are_called(tmp_path: Path) -> None:
    Fuzz(tmp_path)
    for text in VALID:
        if "<prompt" in text:
            parse_prompt(text)
        else:
            parse_schema(text, base=tmp_path)
    for text in HOSTILE:
        with pytest.raises(PromptCacheError):
            parse_schema(text, base=tmp_path)


@pytest.mark.parametrize(
    ("limit", "markup", "message"),
    [
        ("MARKUP_LIMIT", f"<schema name='s'>{'x' * 60}</schema>", "86 characters; it may have up"),
        ("ELEMENT_LIMIT", "<schema name='s'><user/><user/></schema>", "more than 2 elements"),
    ],
)
def test_markup_that_is_too_large_is_refused_at_its_place(
    monkeypatch: pytest.MonkeyPatch, limit: str, markup: str, message: str
) -> None:
    parse_schema(markup)
    monkeypatch.setattr(f"promptcache.pml.xml.{limit}", 85 if limit == "MARKUP_LIMIT" else 2)
    with pytest.raises(PMLSyntaxError, match=message) as refused:
        parse_schema(markup)
    assert refused.value.line == 1
