"""`promptcache translate`: a template's schema on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promptcache.cli import main
from promptcache.pml import parse_schema

MODULE = """
from langchain_core.prompts import ChatPromptTemplate
from langchain_promptcache import PMLPromptTemplate

class chains:
    rag = ChatPromptTemplate([("system", "Answer from {context}, in {tone}."), ("human", "{q}")])

rag = chains.rag
guide = ChatPromptTemplate([("system", "Answer.\\n{docs}"), ("human", "{q}")])
notes = ChatPromptTemplate([("human", "Sum up:\\n{notes}")])
trip = PMLPromptTemplate.from_pml('<schema name="trip">A.</schema>', '<prompt schema="trip"/>')
number = 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "prompts_of_an_app.py").write_text(MODULE)
    (tmp_path / "broken_app.py").write_text("import nothing_of_this_name")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "prompts_of_an_app", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    sys.argv = ["promptcache", "translate", *arguments]
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


@pytest.fixture(autouse=True)
def argv(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [])


def test_a_template_is_written_as_pml(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, "prompts_of_an_app:chains.rag", "--name", "rag")
    assert (status, err) == (0, "")
    assert out.startswith('<schema name="rag">\n  <system>\n    Answer from')
    assert parse_schema(out).name == "rag"


def test_documents_may_have_another_variable(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "prompts_of_an_app:notes", "--documents", "notes")
    assert '<collection name="notes"' in out


def test_a_pml_template_is_written_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "prompts_of_an_app:trip")[1] == '<schema name="trip">A.</schema>\n'


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("prompts", "'prompts' names no template; expected module:prompt"),
        ("no_such_module:rag", "'no_such_module' cannot be imported: No module named"),
        ("broken_app:rag", "'broken_app' cannot be imported: No module named 'nothing_of_this"),
        (
            "prompts_of_an_app:rags",
            "has no 'rags'; did you mean 'rag'? (its templates: guide, notes, ",
        ),
        ("prompts_of_an_app.py:rag", "'prompts_of_an_app.py:rag' names a file; expected module:"),
        ("prompts_of_an_app:guide", "with --documents (its variables: docs, q)"),
        ("prompts_of_an_app:number", "prompts_of_an_app:number is an int; expected a prompt"),
    ],
)
def test_what_is_no_template_is_an_error(
    capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    status, out, err = run(capsys, name)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
