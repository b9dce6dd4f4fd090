"""The demo, on a tiny model and a small folder, and its parts."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from langchain_core.documents import Document
from rich.console import Console

from langchain_promptcache import ChatPromptCache, demo
from langchain_promptcache.demo.library import (
    FolderLoader,
    in_pieces,
    questions_on,
    shipped_library,
)
from langchain_promptcache.demo.measure import says
from langchain_promptcache.demo.retriever import KeywordRetriever
from promptcache import PromptCache
from promptcache.errors import MissingExtraError, PromptError
from support.rag import tiny_engine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "bridge.md").write_text("# The bridge\n\nIt is 412 metres long.\n")
    (tmp_path / "inner" / "museum.txt").write_text("The museum opened in 1893, in a mill.")
    (tmp_path / "picture.png").write_bytes(b"\xff\xfe")
    return tmp_path


@pytest.fixture
def llm() -> ChatPromptCache:
    return ChatPromptCache(engine=tiny_engine(), max_tokens=4)


def test_the_demo_asks_times_and_shows_where_tokens_came_from(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda *_, **__: tiny_engine())
    console = Console(record=True, width=100, file=StringIO())
    assert demo.run(folder, "tiny", console, ["How long is the bridge?"]) == 0
    said = console.export_text()
    for part in (
        '<module name="bridge">', "How long is the bridge?", "bridge.md", "plain transformers",
        "cold", "warm, other order", "approximate",
    ):  # fmt: skip
        assert part in said, part


def test_a_wrong_answer_is_marked_and_makes_the_exit_status(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [{"question": "How long is the bridge?", "answer": "412 metres"}]
    (folder / "inner").rename(folder / "library")
    (folder / "questions.json").write_text(json.dumps(asked))
    monkeypatch.setattr("langchain_promptcache.demo.library.SHIPPED", folder)
    monkeypatch.setattr(PromptCache, "from_pretrained", lambda *_, **__: tiny_engine())
    console = Console(record=True, width=100, file=StringIO())
    assert demo.run(None, "tiny", console) == 1
    said = console.export_text()
    assert "✗ How long is the bridge?" in said
    assert "expected: 412 metres" in said
    assert "0 of 3" in said


def test_without_its_extra_the_demo_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(demo, "NEEDED", ("a_package_that_is_not_there",))
    with pytest.raises(MissingExtraError, match=r"pip install 'promptcache\[demo\]'"):
        demo.run(None, "pocket", Console())


def test_a_folder_is_read_in_the_order_of_its_names_text_and_markdown_only(folder: Path) -> None:
    sources = [document.metadata["source"] for document in FolderLoader(folder).lazy_load()]
    assert sources == ["bridge.md", "museum.txt"]


@pytest.mark.parametrize("content", [None, b"", b"caf\xe9"])
def test_a_folder_without_readable_text_is_refused(
    content: bytes | None, tmp_path: Path, llm: ChatPromptCache
) -> None:
    folder = tmp_path / "docs"
    if content is not None:
        folder.mkdir()
        (folder / "a.md").write_bytes(content)
    with pytest.raises(PromptError, match=r"there is no|is not UTF-8 text") as raised:
        in_pieces(FolderLoader(folder), llm, 100)
    assert "\n" not in str(raised.value)


def test_long_files_are_split_into_pieces_of_so_many_tokens(
    folder: Path, llm: ChatPromptCache
) -> None:
    (folder / "long.txt").write_text("A sentence about mills and lamps.\n" * 40)
    documents = in_pieces(FolderLoader(folder), llm, 200)
    assert len(documents) > 5
    assert all(llm.get_num_tokens(d.page_content) <= 200 for d in documents)


def test_questions_on_a_users_documents_come_from_headings_and_names(
    folder: Path, llm: ChatPromptCache
) -> None:
    asked = [question.text for question in questions_on(in_pieces(FolderLoader(folder), llm, 200))]
    assert asked == ["What is said about The bridge?", "What is said about museum?"]
    same = [Document("# Mills"), Document("x", metadata={"source": "mills.md"})]
    assert [question.text for question in questions_on(same)] == ["What is said about Mills?"]


def test_the_shipped_documents_fit_a_prompt_and_differ() -> None:
    texts = [document.page_content for document in shipped_library().load()]
    assert len(set(texts)) == len(texts) >= 40
    assert max(map(len, texts)) < 1500


def test_the_retriever_prefers_documents_that_share_rare_words() -> None:
    texts = ["The mill is old.", "The lamp is new.", "The mill has a red lamp.", "A bridge."]
    retriever = KeywordRetriever(documents=[Document(text) for text in texts], k=2)
    found = [document.page_content for document in retriever.invoke("Which LAMP is red?")]
    assert found == [texts[2], texts[1]]
    assert KeywordRetriever(documents=[]).invoke("anything") == []


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("In 1893.", "1893", True),
        ("It has 13 rooms.", "3", False),
        ("THE DOCUMENTS DO NOT SAY.", "The documents do not say.", True),
        ("", "1893", False),
    ],
)
def test_an_answer_is_right_when_it_says_the_expected_words(
    answer: str, expected: str, right: bool
) -> None:
    assert says(answer, expected) is right
