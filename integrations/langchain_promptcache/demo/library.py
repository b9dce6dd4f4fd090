"""The documents and questions of the demo: those that ship with it, or a folder of the user's."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_text_splitters import RecursiveCharacterTextSplitter

import promptcache
from langchain_promptcache.chat_model import ChatPromptCache
from promptcache.errors import PromptError

SHIPPED = Path(promptcache.__file__).parent / "demo"
SUFFIXES = (".md", ".txt")
OVERLAP = 16
"""Tokens that two neighbouring pieces of a document share."""
ASKED = 5
"""Questions that are made up for a user's own documents."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question; `answer` is the right one where it is known."""

    text: str
    answer: str | None = None


class FolderLoader(BaseLoader):
    """Every text and Markdown file of a folder, in the order of their names.

    Raises PromptError where there is no folder, and for a file that is not UTF-8.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise PromptError(f"there is no folder {str(folder)!r}")
        self.folder = folder

    def lazy_load(self) -> Iterator[Document]:
        """One document a file."""
        for path in sorted(self.folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES and path.is_file():
                yield Document(_read(path), metadata={"source": path.name})


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PromptError(f"{path} is not UTF-8 text: {error.reason}") from None


def shipped_library() -> FolderLoader:
    """The documents that ship with promptcache; they are short enough as they are."""
    return FolderLoader(SHIPPED / "library")


def shipped_questions() -> list[Question]:
    """Questions on the shipped library, with their answers."""
    listed = json.loads((SHIPPED / "questions.json").read_text(encoding="utf-8"))
    return [Question(item["question"], item["answer"]) for item in listed]


def in_pieces(loader: FolderLoader, llm: ChatPromptCache, size: int) -> list[Document]:
    """A user's files in pieces of at most `size` tokens.

    Raises PromptError where there is no text in them.
    """
    splitter = RecursiveCharacterTextSplitter(
        chunk_size=size, chunk_overlap=min(OVERLAP, size // 4), length_function=llm.get_num_tokens
    )
    documents = splitter.split_documents(loader.lazy_load())
    if not documents:
        raise PromptError(
            f"there is no text in {str(loader.folder)!r}: expected files that end in "
            f"{' or '.join(SUFFIXES)}"
        )
    return documents


def questions_on(documents: Sequence[Document]) -> list[Question]:
    """Questions on documents that nothing is known of: one for each of the first headings."""
    titles: dict[str, str] = {}
    for title in _titles(documents):
        titles.setdefault(title.casefold(), title)
    return [Question(f"What is said about {title}?") for title in list(titles.values())[:ASKED]]


def _titles(documents: Iterable[Document]) -> Iterator[str]:
    for document in documents:
        first = document.page_content.strip().partition("\n")[0]
        source = Path(str(document.metadata.get("source", ""))).stem
        yield first.lstrip("# ") if first.startswith("#") else source
