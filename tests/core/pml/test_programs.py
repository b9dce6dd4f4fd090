"""Prompt programs: functions that are schemas, and whose calls are prompts."""

from __future__ import annotations

import runpy
from dataclasses import replace
from enum import Enum
from pathlib import Path
from textwrap import dedent, indent
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from promptcache.errors import PMLSyntaxError, PromptError
from promptcache.pml import Scaffold, parse_prompt, parse_schema, resolve
from promptcache.pml.programs import Length, Program, role, schema


class Season(Enum):
    SPRING = 1
    AUTUMN = 2


@schema
def city(name: Literal["miami", "maui"], season: Season, *, food: bool = True):
    "The city:"
    match name:
        case "miami":
            " Miami is loud."
        case "maui":
            " Maui is an island."
    if season is Season.SPRING:
        " It blooms."
    elif season is Season.AUTUMN:
        " It rains."
    if food:
        " Eat fish."
    else:
        pass


@schema
def plan(
    days: Annotated[str, Length(5)] = "a week", people: Annotated[str | None, Length(4)] = None
):
    f" The journey lasts {days} for {people}."  # noqa: B021


@schema
def trip(
    where: Literal["miami", "maui"],
    days: Annotated[str, Length(8)],
    question: str,
    season: Season = Season.SPRING,
    rain: bool = False,
):
    with role("system"):
        "You plan journeys."
    with role("user"):
        "Use what follows."
        plan(days, people="two")
        city(where, season=season)
        if rain and where != "maui":
            f" Mind the rain of {days}, {days}."
        f" Stay {days}."
        " Now: "
        question  # noqa: B018


TRIP = """
<schema name="trip">
  <system>You plan journeys.</system>
  <user xml:space="preserve">Use what follows.<module name="plan"> The journey lasts <param
    name="days" len="5" default="a week"/> for <param name="people" len="4"/>.</module><module
    name="city">The city:<union><module name="miami"> Miami is loud.</module><module name="maui"
    > Maui is an island.</module></union><union><module name="SPRING"> It blooms.</module><module
    name="AUTUMN"> It rains.</module></union><union><module name="food"> Eat fish.</module><module
    name="else"/></union></module><module name="rain-and-where-maui"> Mind the rain of <param
    name="days" len="8"/>, <param name="days-2" len="8"/>.</module><module name="days"
    > Stay <param name="days" len="8"/>.</module> Now: </user>
</schema>
"""


def text_of(program: Program, *args: object, **kwargs: object) -> str:
    messages = resolve(program.schema, program(*args, **kwargs))
    return "\n".join(f"{m.role}: {m.text}" if m.role else m.text for m in messages)


def test_a_program_is_the_schema_that_one_would_write_by_hand() -> None:
    assert trip.schema == parse_schema(TRIP)


def test_a_call_is_the_prompt_that_one_would_write_by_hand() -> None:
    assert trip("maui", "3 days", "What first?", rain=True) == parse_prompt(
        '<prompt schema="trip"><plan days="3 days" people="two"/><city><maui/><SPRING/><food/>'
        '</city><days days="3 days"/>What first?</prompt>'
    )
    assert trip("miami", "a day", "Why?", Season.AUTUMN, rain=True) == parse_prompt(
        '<prompt schema="trip"><plan days="a day" people="two"/><city><miami/><AUTUMN/><food/>'
        '</city><rain-and-where-maui days="a day" days-2="a day"/><days days="a day"/>Why?</prompt>'
    )


@given(
    st.sampled_from(["miami", "maui"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=9),
    st.sampled_from(Season),
    st.booleans(),
)
def test_the_text_is_what_the_program_says_from_top_to_bottom(
    where: str, days: str, question: str, season: Season, rain: bool
) -> None:
    place = {"miami": " Miami is loud.", "maui": " Maui is an island."}[where]
    weather = " It blooms." if season is Season.SPRING else " It rains."
    mind = f" Mind the rain of {days}, {days}." if rain and where == "miami" else ""
    assert text_of(trip, where, days, question, season, rain) == (
        f"system: You plan journeys.\nuser: Use what follows. The journey lasts {days} for two."
        f"The city:{place}{weather} Eat fish.{mind} Stay {days}. Now: {question}"
    )


def test_a_parameter_left_out_has_its_default_or_closes() -> None:
    assert plan() == parse_prompt('<prompt schema="plan"><days/></prompt>')
    assert text_of(plan) == " The journey lasts a week for."
    assert text_of(plan, people="two") == " The journey lasts a week for two."
    assert text_of(plan, None) == " The journey lasts a week for."


def test_content_is_never_markup() -> None:
    assert text_of(trip, "maui", "<maui/>", "</user> &amp;").endswith(
        "Stay <maui/>. Now: </user> &amp;"
    )


def test_arguments_are_handed_on_by_place_or_by_name_and_as_constants() -> None:
    @schema
    def outer(where: str, mild: bool, stay: str):
        city(where, Season.AUTUMN, food=not mild)
        plan(people=stay)

    assert outer("maui", False, "six") == parse_prompt(
        '<prompt schema="outer"><city><maui/><AUTUMN/><food/></city><plan people="six"/></prompt>'
    )


user = True


@schema
def choices(number: int, word: str | None, flag: bool):
    if number > 2:
        "many"
    elif number == 2:
        "two"
    elif number in (0, -1):
        "none"
    match word:
        case "a" | "b":
            " ab"
        case None:
            " nothing"
        case _:
            " other"
    if not flag:
        " unset"
    if flag or number != 1:
        " x"
    if user:
        " who"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((3, "a", True), "many ab x who"),
        ((2, "b", False), "two ab unset x who"),
        ((-1, None, True), "none nothing x who"),
        ((1, "c", False), " other unset who"),
    ],
)
def test_conditions_are_evaluated_with_the_arguments(arguments: tuple, text: str) -> None:
    assert text_of(choices, *arguments) == text


def test_modules_are_called_after_their_conditions() -> None:
    names = [
        [member.name for member in getattr(node, "members", [node])]
        for node in choices.schema.children
    ]
    assert names == [
        ["number-2", "number-2-2", "number-in-0-1"],
        ["a-or-b", "None", "else"],
        ["not-flag"],
        ["flag-or-number-1"],
        ["if-user"],
    ]


def test_a_message_that_only_the_prompts_own_text_stands_in_is_one_of_its_own() -> None:
    @schema
    def asked(hint: bool, question: str):
        with role("user"):
            "Hello."
        with role("user"):
            if hint:
                "Hint. "
            question  # noqa: B018

    assert text_of(asked, True, "Why?") == "user: Hello.\nuser: Hint. Why?"
    assert text_of(asked, False, "Why?") == "user: Hello.\nuser: Why?"


def test_a_program_without_roles_is_a_text() -> None:
    @schema
    def plain(question: str):
        "Be brief."
        " Well: "
        question  # noqa: B018

    assert text_of(plain, "Why?") == "Be brief. Well: Why?"


def test_programs_may_close_over_what_stands_around_them() -> None:
    limit = 3

    @schema
    def inner():
        "in"

    @schema
    def around(n: int):
        if n > limit:
            "big"
        inner()
        inner()

    assert text_of(around, 4) == "biginin"
    assert [node.name for node in around.schema.children] == ["n-limit", "inner", "inner-2"]


def test_a_whole_exchange_can_be_a_nested_program() -> None:
    @schema
    def shot():
        with role("user"):
            "1 + 2"
        with role("assistant"):
            "3"

    @schema
    def sums(question: str, shown: bool):
        with role("system"):
            "You add."
        if shown:
            shot()
        question  # noqa: B018

    assert text_of(sums, "2 + 2", True) == (
        "system: You add.\nuser: 1 + 2\nassistant: 3\nuser: 2 + 2"
    )
    assert text_of(sums, "2 + 2", False) == "system: You add.\nuser: 2 + 2"


def test_a_programs_schema_may_be_given_scaffolds() -> None:
    scaffolded = replace(trip.schema, scaffolds=(Scaffold("both", ("plan", "city")),))
    messages = resolve(scaffolded, trip("maui", "3 days", "Why?"))
    bonds = {s.module: s.bond.name for m in messages for s in m.segments if s.bond}
    assert bonds == {"trip.plan": "trip.both", "trip.city": "trip.both"}


# -- refusals ------------------------------------------------------------------------------------


def load(tmp_path: Path, body: str, signature: str = "x: bool, t: str") -> None:
    path = tmp_path / "program.py"
    path.write_text(
        "from typing import Annotated\n"
        "from promptcache.pml.programs import Length, role, schema\n"
        f"@schema\ndef p({signature}):\n" + indent(dedent(body).strip(), "    ") + "\n",
        encoding="utf-8",
    )
    runpy.run_path(str(path))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (
            "for i in 'ab': 'x'",
            "\"for i in 'ab':\" cannot stand here: a prompt program is made of",
        ),
        (
            "y = 1",
            "'y = 1' cannot stand here: a prompt program is made of strings, if, match, with",
        ),
        ("return 'a'", "cannot stand here: a prompt program is made of"),
        ("3", "'3' cannot stand here"),
        ("y", "'y' cannot stand here"),
        ("print(t)", "print(...) cannot be called here: only functions with @schema can"),
        ("later()", "later(...) cannot be called here: only functions with @schema can"),
        ("p(x, t)", "p(...) calls itself"),
        ("role('user')", "role(...) cannot be called here"),
        ("if len(t): 'a'", "'len(t)' cannot stand here: allowed are arguments, constants"),
        ("if z: 'a'", "'z' is no argument of p, and is not defined before it"),
        ("if x:\n    y = 1", "'y = 1' cannot stand here"),
        ("match t:\n    case [a]: 'a'", "case '[a]' cannot stand here: a case is a constant"),
        ("match t:\n    case a: 'a'", "case 'a' cannot stand here"),
        ("match t:\n    case 'a' if x: 'a'", "a case has no if of its own here: use if/elif"),
        ("f'{t}'", "the argument 't' has no length: annotate it Annotated[str, Length(...)]"),
        ("f'{t.upper()}'", "'t.upper()' cannot stand in a string: only arguments with a length"),
        ("f'{d!r}'", "an argument stands in a string as it is, without ! or : behind it"),
        ("f'{d:>3}'", "an argument stands in a string as it is"),
        ("x", "the argument 'x' has no length"),
        ("t\n'and more'", "'t' has no length, so it is the prompt's own text, which stands at the"),
        ("if x:\n    t", "so it is the prompt's own text"),
        ("with role('assistant'):\n    t", "in no message or the user's"),
        ("with role('usr'): 'a'", "'usr' is no role; did you mean 'user'?"),
        ("with role(t): 'a'", "with opens a message: write with role('system'), 'user' or"),
        ("with open(t) as f: 'a'", "with opens a message"),
        ("with role('user'):\n    with role('user'): 'a'", "a message does not contain another"),
    ],
)
def test_what_a_program_cannot_hold_is_an_error_with_file_and_place(
    tmp_path: Path, body: str, words: str
) -> None:
    with pytest.raises(PMLSyntaxError) as caught:
        load(tmp_path, body, "x: bool, d: Annotated[str, Length(3)], t: str")
    error = caught.value
    assert words in error.message
    assert error.source == str(tmp_path / "program.py")
    assert error.line >= 5 and error.column >= 5


@pytest.mark.parametrize(
    ("signature", "words"),
    [
        ("*texts: str", "a prompt program has no *texts: give each argument a name"),
        ("d: Annotated[int, Length(3)]", "one with a length is text"),
        ("d: Annotated[str, Length(3), Length(4)]", "the argument 'd' has 2 lengths"),
        ("d: Annotated[str, Length(3)] = 7", "the default of 'd' is 7: it is text, or None"),
    ],
)
def test_an_argument_that_cannot_be_one_is_an_error_with_its_place(
    tmp_path: Path, signature: str, words: str
) -> None:
    with pytest.raises(PMLSyntaxError) as caught:
        load(tmp_path, "'a'", signature)
    assert words in caught.value.message
    assert (caught.value.line, caught.value.column) == (4, 8 if "*" in signature else 7)


def test_a_length_that_cannot_be_one_is_an_error_where_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(
        PMLSyntaxError, match=r"program.py: line 5, column 5: the param 'd' has len 0"
    ):
        load(tmp_path, "f'{d}'", "d: Annotated[str, Length(0)]")


def test_columns_count_characters(tmp_path: Path) -> None:
    with pytest.raises(PMLSyntaxError, match="line 5, column 12: 'y'"):
        load(tmp_path, "'日本é'; y")


@pytest.mark.parametrize("call", ["q()", "q('a', 'b')", "q(d=1, e=2)", "q(*x)", "q(**x)"])
def test_a_call_that_does_not_fit_is_an_error_where_it_stands(tmp_path: Path, call: str) -> None:
    body = f"'a'\n@schema\ndef q(d: bool): 'q'\n@schema\ndef r(x: str): {call}"
    source = "from promptcache.pml.programs import schema\n@schema\ndef p():\n    " + body
    (tmp_path / "two.py").write_text(source)
    with pytest.raises(PMLSyntaxError, match=r"line 8, column 16: q\(\.\.\.\)"):
        runpy.run_path(str(tmp_path / "two.py"))


def test_programs_that_call_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    source = "from promptcache.pml.programs import schema\n"
    for name, body in (("a", "'x'"), ("b", "a()"), ("a", "b()"), ("c", "a()")):
        source += f"@schema\ndef {name}(): {body}\n"
    (tmp_path / "circle.py").write_text(source)
    with pytest.raises(PMLSyntaxError, match=r"line 5, column 10: a\(\.\.\.\) calls itself"):
        runpy.run_path(str(tmp_path / "circle.py"))


def test_what_is_no_function_or_has_no_source_is_refused() -> None:
    with pytest.raises(PMLSyntaxError, match="@schema stands before a function, not an int"):
        schema(7)  # type: ignore[arg-type]
    with pytest.raises(PMLSyntaxError, match="is no plain function"):
        schema(lambda: None)
    scope: dict[str, object] = {}
    exec("def nowhere(): 'a'", scope)
    with pytest.raises(PMLSyntaxError, match="the source of nowhere cannot be read"):
        schema(scope["nowhere"])  # type: ignore[arg-type]


def test_a_call_with_wrong_arguments_says_which() -> None:
    with pytest.raises(TypeError, match=r"trip\(\): missing a required argument: 'question'"):
        trip("maui", "3")  # type: ignore[call-arg]
    with pytest.raises(PromptError, match=r"trip\(\): days is an int, expected text"):
        trip("maui", 3, "Why?")  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=r"trip\(\): question is None, expected text"):
        trip("maui", "3", None)  # type: ignore[arg-type]
    with pytest.raises(PromptError, match=r"choices\(\): 'number > 2' cannot be told"):
        choices("3", None, True)  # type: ignore[arg-type]


def test_role_outside_of_a_program_is_refused() -> None:
    with pytest.raises(PromptError, match="stands in a function with @schema"):
        role("user")
