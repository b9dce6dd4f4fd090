"""Which neighbours a tokenizer sees together."""

from __future__ import annotations

from promptcache.joining import merged
from promptcache.segments import Kind, Segment, joined

OPEN = Segment("<|user|> ", Kind.CONTROL)
DOCUMENT = Segment("A document.", Kind.MODULE, "d")


def texts(*segments: Segment) -> list[str]:
    joint = merged(segments)
    assert joined(joint) == joined(segments)
    return [segment.text for segment in joint]


def test_neighbouring_text_of_no_module_is_one() -> None:
    assert texts(Segment("Read "), Segment("this: "), DOCUMENT) == ["Read this: ", "A document."]


def test_a_space_that_a_template_writes_before_a_text_goes_with_the_text() -> None:
    assert texts(OPEN, Segment("Hello")) == ["<|user|>", " Hello"]


def test_a_space_before_a_document_stays_so_that_the_document_keeps_its_tokens() -> None:
    assert texts(OPEN, DOCUMENT) == ["<|user|> ", "A document."]


def test_a_space_at_the_end_of_a_preamble_stays_so_that_the_preamble_keeps_its_tokens() -> None:
    preamble = Segment("<|user|> ", Kind.CONTROL, preamble=True)
    assert texts(preamble, Segment("Hello")) == ["<|user|> ", "Hello"]


def test_a_template_that_is_one_space_keeps_it() -> None:
    assert texts(Segment(" ", Kind.CONTROL), Segment("Hello")) == [" ", "Hello"]


def test_inside_a_module_a_space_of_the_template_goes_with_the_modules_text() -> None:
    before = Segment("<|assistant|> ", Kind.CONTROL, "d")
    assert texts(before, DOCUMENT) == ["<|assistant|>", " A document."]
