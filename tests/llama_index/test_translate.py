"""`promptcache translate`: the schema of a LlamaIndex template on the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from promptcache.cli import main
from promptcache.pml import Schema, parse_schema, write

MODULE = """
from langchain_core.prompts import PromptTemplate as LangchainTemplate
from llama_index.core.prompts import PromptTemplate
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL

class engines:
    qa = PromptTemplate("Use\\n{context_str}\\nQuestion: {query_str}")

qa = engines.qa
refine = PromptTemplate("Refine {existing_answer} with {context_msg}.")
notes = PromptTemplate("Sum up:\\n{notes}")
theirs = LangchainTemplate.from_template("Use {context}")
length = 7
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "templates_of_an_app.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", [])
    monkeypatch.delitem(sys.modules, "templates_of_an_app", raising=False)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    sys.argv = ["promptcache", "translate", *arguments]
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, err


def parsed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Schema:
    status, out, err = run(capsys, *arguments)
    assert (status, err) == (0, "")
    schema = parse_schema(out)
    assert write(schema) == out
    return schema


def test_a_template_is_written_as_pml(capsys: pytest.CaptureFixture[str]) -> None:
    schema = parsed(capsys, "templates_of_an_app:engines.qa", "--name", "qa")
    assert schema.name == "qa"
    assert '<collection name="context_str"' in write(schema)


def test_a_selector_is_written_as_the_template_that_it_has_for_chat_models(
    capsys: pytest.CaptureFixture[str],
) -> None:
    schema = parsed(capsys, "templates_of_an_app:DEFAULT_TEXT_QA_PROMPT_SEL")
    assert "expert Q&amp;A system" in write(schema)


def test_documents_may_have_another_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert "context_msg" in write(parsed(capsys, "templates_of_an_app:refine"))
    schema = parsed(capsys, "templates_of_an_app:notes", "--documents", "notes")
    assert '<collection name="notes"' in write(schema)


def test_templates_of_both_frameworks_may_stand_in_one_module(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert '<collection name="context"' in write(parsed(capsys, "templates_of_an_app:theirs"))


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("templates_of_an_app:notes", "notes: the template has no variable 'context_str' or"),
        ("templates_of_an_app:length", "is an int; expected a prompt template of LangChain's or"),
        (
            "templates_of_an_app:refined",
            "has no 'refined'; did you mean 'refine'? (its templates: DEFAULT_TEXT_QA_PROMPT_SEL, ",
        ),
    ],
)
def test_what_is_no_template_for_documents_is_an_error(
    capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    status, out, err = run(capsys, name)
    assert (status, out) == (1, "")
    assert err.startswith("error: ")
    assert said in err
    assert "Traceback" not in err
