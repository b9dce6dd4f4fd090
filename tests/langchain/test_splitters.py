"""Documents on their way through text splitters: lazily, once each, and again after a stop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import BaseDocumentTransformer, Document
from langchain_text_splitters import (
    MarkdownHeaderTextSplitter,
    RecursiveCharacterTextSplitter,
    TokenTextSplitter,
)

from langchain_promptcache import ChatPromptCache, PromptCacheLLM
from promptcache.errors import OptionError, PromptError
from support.rag import PROMPT, tiny_engine

PARAGRAPHS = [f"Paragraph {n} tells of the town of Orlec and its mill." for n in range(8)]
FILES = [Document("\n\n".join(PARAGRAPHS[n : n + 2])) for n in range(0, 8, 2)]
SPLITTER = RecursiveCharacterTextSplitter(chunk_size=60, chunk_overlap=0)


class Loader(BaseLoader):
    """Reads files one by one, and fails at one of them if it is told to."""

    def __init__(self, fails_at: int | None = None) -> None:
        self.fails_at = fails_at
        self.read = 0

    def lazy_load(self) -> Iterator[Document]:
        for number, document in enumerate(FILES):
            if number == self.fails_at:
                raise OSError("the disk is gone")
            self.read += 1
            yield document


class Upper(BaseDocumentTransformer):
    """Not a splitter; it remembers how many documents it got at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def transform_documents(
        self, documents: Sequence[Document], **kwargs: Any
    ) -> Sequence[Document]:
        self.sizes.append(len(documents))
        return [Document(document.page_content.upper()) for document in documents]


@pytest.fixture(params=[ChatPromptCache, PromptCacheLLM])
def llm(request: pytest.FixtureRequest) -> ChatPromptCache | PromptCacheLLM:
    return request.param(engine=tiny_engine(), max_tokens=1)


def test_the_parts_of_a_loaders_documents_become_modules(
    llm: ChatPromptCache | PromptCacheLLM,
) -> None:
    done = llm.cache_documents(Loader(), PROMPT, splitter=SPLITTER, progress=False)
    assert (done.added, done.encoded) == (len(PARAGRAPHS), len(PARAGRAPHS))
    assert llm.engine.forget_documents(PARAGRAPHS) == len(PARAGRAPHS)


def test_after_an_interruption_the_same_call_goes_on_where_it_stopped(
    llm: ChatPromptCache | PromptCacheLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptcache.shelf.CHUNK", 2)
    with pytest.raises(OSError, match="the disk is gone"):
        llm.cache_documents(Loader(fails_at=2), PROMPT, splitter=SPLITTER, progress=False)
    again = llm.cache_documents(Loader(), PROMPT, splitter=SPLITTER, progress=False)
    assert (again.known, again.added, again.encoded) == (4, 4, 4)


def test_each_document_is_read_and_split_when_its_turn_comes(
    llm: ChatPromptCache | PromptCacheLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptcache.shelf.CHUNK", 2)
    loader, read = Loader(), []
    cache_chunk = llm.engine._shelf._register

    def registering(chunk: Sequence[str], done: Any) -> Any:
        read.append(loader.read)
        return cache_chunk(chunk, done)

    monkeypatch.setattr(llm.engine._shelf, "_register", registering)
    llm.cache_documents(loader, splitter=SPLITTER, progress=False)
    assert read == [1, 2, 3, 4]


def test_equal_parts_of_different_documents_are_one_module() -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    done = llm.cache_documents([*FILES, *FILES[::-1]], splitter=SPLITTER, progress=False)
    assert (done.added, done.known) == (len(PARAGRAPHS), len(PARAGRAPHS))


def test_a_splitter_that_is_no_transformer_and_plain_texts_will_do() -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    splitter = MarkdownHeaderTextSplitter([("#", "title")])
    texts = ["# One\nThe first part of it.\n# Two\nThe second part of it."]
    assert llm.cache_documents(texts, splitter=splitter, progress=False).added == 2
    assert llm.engine.forget_documents(["The first part of it.", "The second part of it."]) == 2


def test_another_transformer_gets_one_document_at_a_time() -> None:
    llm, upper = ChatPromptCache(engine=tiny_engine()), Upper()
    llm.cache_documents(["a text of some length", *FILES], splitter=upper, progress=False)
    assert upper.sizes == [1] * (len(FILES) + 1)
    assert llm.engine.forget_documents(["A TEXT OF SOME LENGTH"]) == 1


def test_the_bar_counts_parts(capsys: pytest.CaptureFixture[str]) -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    llm.cache_documents(Loader(), PROMPT, splitter=SPLITTER)
    assert "8doc" in capsys.readouterr().err


@pytest.mark.parametrize("splitter", ["\n\n", TokenTextSplitter, len, 60])
def test_what_cannot_split_is_refused_before_anything_is_read(splitter: Any) -> None:
    llm, loader = ChatPromptCache(engine=tiny_engine()), Loader()
    with pytest.raises(OptionError, match="expected a text splitter"):
        llm.cache_documents(loader, splitter=splitter, progress=False)
    assert loader.read == 0


def test_what_is_no_document_is_refused_with_a_splitter_too() -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    with pytest.raises(PromptError, match="a document is an int; expected a Document or a text"):
        llm.cache_documents([3], splitter=SPLITTER, progress=False)  # type: ignore[list-item]
