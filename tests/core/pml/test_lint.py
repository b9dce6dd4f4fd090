"""What `promptcache lint` prints."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from promptcache.pml.lint import lint, run

SCHEMA = """<schema name="trip">
  <system>Plan trips.</system>
  <module name="plan" cache="false">For <param name="days" len="5" default="two"/> days.</module>
  <union name="place" default="maui">
    <module name="miami">Miami.</module>
    <module name="maui">Maui.</module>
  </union>
  <collection name="notes"/>
</schema>
"""
PROMPT = """<prompt schema="trip">
  <plan days="3"/><miami/><notes><doc key="k1"/></notes>
  <user>What first?</user>
</prompt>
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(*paths: str, count: Callable[[str], int] | None = None) -> tuple[int, str]:
    output = StringIO()
    status = run([Path(path) for path in paths], Console(file=output, width=100), count)
    return status, output.getvalue()


def test_a_schema_is_shown_as_a_tree_with_sizes(folder):
    Path("trip.pml").write_text(SCHEMA)
    assert printed("trip.pml") == (
        0,
        """\
trip.pml: schema trip  32 characters
├── system  11 characters
│   └── text 'Plan trips.'  11 characters
├── module plan  10 characters, computed each time
│   ├── text 'For '  4 characters
│   ├── param days  up to 5 tokens, else 'two'
│   └── text ' days.'  6 characters
├── union place  default maui
│   ├── module miami  6 characters
│   │   └── text 'Miami.'  6 characters
│   └── module maui  5 characters
│       └── text 'Maui.'  5 characters
└── collection notes
""",
    )


def test_sizes_are_in_tokens_too_when_there_is_a_tokenizer(folder):
    Path("s.pml").write_text('<schema name="s">one two three</schema>')
    _, output = printed("s.pml", count=lambda text: len(text.split()))
    assert "s.pml: schema s  13 characters, 3 tokens" in output


def test_a_prompt_is_shown_and_held_against_its_schema_when_that_is_given_too(folder):
    Path("trip.pml").write_text(SCHEMA)
    Path("ask.pml").write_text(PROMPT)
    status, output = printed("ask.pml", "trip.pml")
    assert status == 0
    assert output.startswith("""\
ask.pml: prompt for the schema trip
├── import plan  days='3'
├── import miami
├── import notes
│   └── doc 'k1'
└── user
    └── text 'What first?'  11 characters
""")


def test_a_prompt_alone_is_shown_with_what_was_not_checked(folder):
    Path("ask.pml").write_text(PROMPT)
    status, output = printed("ask.pml")
    assert status == 0
    assert "ask.pml: imports are not checked: no file given holds the schema 'trip'" in output


def test_an_import_that_does_not_fit_the_schema_is_an_error_with_its_place(folder):
    Path("trip.pml").write_text(SCHEMA)
    Path("ask.pml").write_text(PROMPT.replace("miami", "paris"))
    status, output = printed("trip.pml", "ask.pml")
    assert status == 1
    assert "ask.pml: line 2, column 19: the schema 'trip' has no module 'paris'" in output


def test_a_prompt_with_nothing_to_generate_from_is_an_error(folder):
    Path("s.pml").write_text('<schema name="s"><module name="m"/></schema>')
    Path("ask.pml").write_text('<prompt schema="s"/>')
    status, output = printed("s.pml", "ask.pml")
    assert status == 1
    assert "ask.pml: the prompt for the schema 's' has no text" in output


def test_all_errors_are_printed_in_the_order_of_their_places(folder):
    Path("bad.pml").write_text(
        '<schema name="s">\n'
        '  <param name="p" len="1"/>\n'
        "  <modul/>\n"
        '  <union default="a"> stray <module name="a" x="1"/></union>\n'
        '  <module name="user"><param name="p"/></module>\n'
        "</schema>"
    )
    status, output = printed("bad.pml")
    assert status == 1
    assert [line.split(": ")[1] for line in output.splitlines()] == [
        "line 2, column 3",
        "line 3, column 3",
        "line 4, column 22",
        "line 4, column 29",
        "line 5, column 3",
        "line 5, column 23",
    ]


def test_a_member_with_an_error_does_not_make_its_unions_default_one(folder):
    Path("bad.pml").write_text(
        '<schema name="s"><union default="b"><module name="a"/><module name="b" cache="x"/></union>'
        "</schema>"
    )
    (error,) = lint(Path("bad.pml")).errors
    assert "cache is" in str(error)


def test_a_file_that_is_not_well_formed_has_one_error(folder):
    Path("bad.pml").write_text('<schema name="s">\n <modul>\n</schema>')
    (error,) = lint(Path("bad.pml")).errors
    assert str(error) == (
        "bad.pml: line 3, column 3: not well-formed: mismatched tag, "
        "inside <modul> which opens at line 2, column 2"
    )


def test_every_file_is_read_though_one_has_errors(folder):
    Path("good.pml").write_text('<schema name="s">x</schema>')
    Path("latin.pml").write_bytes(b"<schema name='s'>\xe9</schema>")
    status, output = printed("absent.pml", "latin.pml", "good.pml", ".")
    assert status == 1
    assert "absent.pml: the file cannot be read: No such file or directory" in output
    assert "latin.pml: the file is not UTF-8: invalid continuation byte at byte 17" in output
    assert ".: the file cannot be read: Is a directory" in output
    assert "good.pml: schema s  1 characters" in output


def test_src_files_are_found_beside_the_schema(folder):
    (folder / "sub").mkdir()
    Path("sub/text.txt").write_text("A file.")
    Path("sub/s.pml").write_text('<schema name="s"><module name="m" src="text.txt"/></schema>')
    assert printed("sub/s.pml")[0] == 0


def test_text_that_looks_like_console_markup_is_shown_as_it_is(folder):
    Path("s.pml").write_text('<schema name="s">[bold]x[/bold]</schema>')
    assert "text '[bold]x[/bold]'" in printed("s.pml")[1]
