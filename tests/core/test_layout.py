"""Tokens and positions: compact, complete, and honest about what is exact."""

from __future__ import annotations

import pytest

from promptcache.errors import PromptError
from promptcache.laying import lay_out
from promptcache.layout import ContextKind, Layout
from promptcache.segments import Hole, Kind, Place, Segment

PLACEHOLDER = 99


def laid(*segments: tuple[Segment, list[int]], bare: list[int] | None = None) -> Layout:
    return lay_out(
        [s for s, _ in segments], [ids for _, ids in segments], placeholder=PLACEHOLDER, bare=bare
    )


def text(text: str, *ids: int, preamble: bool = False) -> tuple[Segment, list[int]]:
    return Segment(text, preamble=preamble), list(ids)


def module(name: str, *ids: int) -> tuple[Segment, list[int]]:
    return Segment(name, Kind.MODULE, name), list(ids)


def argument(name: str, length: int, *ids: int) -> tuple[Segment, list[int]]:
    place = Place(2, 5)
    return Segment("arg", Kind.ARGUMENT, name, Hole("days", length), place=place), list(ids)


def test_a_tokens_position_is_its_place_in_the_plain_prompt() -> None:
    layout = laid(text("p", 1, 2, preamble=True), module("a", 3, 4), text("q", 5))
    assert layout.ids == (1, 2, 3, 4, 5)
    assert [(p.start, p.stop) for p in layout.pieces] == [(0, 2), (2, 4), (4, 5)]


def test_the_preamble_is_a_run_of_its_own_and_every_modules_context() -> None:
    layout = laid(text("p", 1, 2, preamble=True), module("a", 3), module("b", 4))
    preamble, a, b = (piece.run for piece in layout.pieces)
    assert preamble and preamble.ids == (1, 2) and preamble.context.kind is ContextKind.START
    assert a and b and a.context.ids == b.context.ids == (1, 2)


def test_only_what_stands_where_it_was_encoded_is_exact() -> None:
    layout = laid(text("p", 1, preamble=True), module("a", 2), module("b", 3), text("q", 4))
    assert [piece.exact for piece in layout.pieces] == [True, True, False, False]
    assert layout.exact_prefix == 2


def test_an_argument_drops_the_unused_placeholders_and_what_follows_moves_up() -> None:
    layout = laid(module("a", 1, 2), argument("a", 4, 7, 8), module("a", 3))
    assert layout.ids == (1, 2, 7, 8, 3)
    first, hole, last = layout.pieces
    assert first.run and first.run.ids == (1, 2, *[PLACEHOLDER] * 4, 3)
    assert hole.run is None
    assert (last.offset, last.start, last.exact) == (6, 4, False)


def test_an_argument_as_long_as_its_parameter_leaves_no_gap() -> None:
    layout = laid(module("a", 1), argument("a", 2, 7, 8), module("a", 3))
    assert layout.pieces[2].start == 3


def test_an_argument_that_is_too_long_names_its_place_and_both_lengths() -> None:
    with pytest.raises(PromptError, match=r"'days'.*line 2, column 5.*has 3 tokens.*holds 2"):
        laid(module("a", 1), argument("a", 2, 7, 8, 9))


def closed(length: int, *ids: int, note: str | None = None) -> tuple[Segment, list[int]]:
    """An argument of a module that is computed each time."""
    hole = Hole("days", length)
    return Segment("x" * len(ids), Kind.ARGUMENT, hole=hole, note=note), list(ids)


def test_an_argument_of_a_module_that_is_not_kept_is_new_text_of_limited_length() -> None:
    layout = laid(text("p", 1, preamble=True), text("q", 2), closed(2, 7, 8))
    assert layout.ids == (1, 2, 7, 8)
    assert layout.pieces[2].run is None
    with pytest.raises(PromptError, match=r"the argument 'days' has 3 tokens.*holds 2"):
        laid(text("q", 2), closed(2, 7, 8, 9))


def test_a_closed_hole_keeps_its_note_whether_its_module_is_kept_or_not() -> None:
    layout = laid(module("a", 1), closed(2, note="closed"), text("q", 2))
    assert [(piece.kind, piece.note) for piece in layout.pieces] == [
        (Kind.MODULE, None),
        (Kind.ARGUMENT, "closed"),
        (Kind.TEXT, None),
    ]


def test_a_child_between_two_parts_of_its_parent_is_not_part_of_the_parents_run() -> None:
    layout = laid(module("a", 1), module("a.b", 5, 6), module("a", 2))
    runs = {piece.run for piece in layout.pieces}
    assert {run.ids for run in runs if run} == {(1, 2), (5, 6)}
    assert layout.pieces[2].offset == 1


@pytest.mark.parametrize(("length", "encoded"), [(31, False), (32, True)])
def test_anonymous_text_is_a_module_from_32_tokens_on(length: int, encoded: bool) -> None:
    fixed = Segment("fixed", Kind.MODULE, "trip.#2", anonymous=True)
    layout = laid(module("a", 1), (fixed, list(range(length))))
    assert (layout.pieces[1].run is not None) is encoded


def test_bare_modules_have_the_beginning_of_sequence_token_as_context() -> None:
    layout = laid(text("p", 1, 2, preamble=True), module("a", 3), bare=[1])
    run = layout.pieces[1].run
    assert run and run.context.ids == (1,) and run.context.kind is ContextKind.BARE
    assert not layout.pieces[1].exact
