"""Streamed text is the whole text, cut at stop strings and nowhere else."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from promptcache.text.stream import TextStream
from support.words import byte_tokenizer

TEXTS = st.text(st.sampled_from("ab \n€🙂é<"), max_size=30)


def streamed(text: str, stop: list[str], *, strip: bool = False) -> TextStream:
    stream = TextStream(byte_tokenizer(), stop, strip=strip)
    pieces = [stream.push(token) for token in byte_tokenizer()(text).input_ids]
    pieces.append(stream.finish())
    assert "".join(pieces) == stream.text
    assert all("�" not in piece for piece in pieces)
    return stream


@given(TEXTS)
def test_without_stop_strings_every_character_comes(text: str) -> None:
    assert streamed(text, []).text == text


@given(TEXTS, st.lists(st.text(st.sampled_from("ab €"), min_size=1, max_size=4), max_size=3))
@example(" aa", ["a", " aa"])
def test_text_ends_before_the_stop_string_that_is_complete_first(
    text: str, stop: list[str]
) -> None:
    found = [(text.find(s) + len(s), text.find(s)) for s in stop if s in text]
    stream = streamed(text, stop)
    assert stream.text == (text[: min(found)[1]] if found else text)
    assert stream.met_stop is bool(found)


@given(TEXTS)
def test_leading_white_space_is_dropped_when_asked(text: str) -> None:
    assert streamed(text, [], strip=True).text == text.lstrip()


@pytest.mark.parametrize("text", ["a🙂", "é" * 40])
def test_a_character_of_several_tokens_comes_when_it_is_whole(text: str) -> None:
    stream = TextStream(byte_tokenizer())
    ids = byte_tokenizer()(text).input_ids
    assert "".join(stream.push(token) for token in ids) == text
