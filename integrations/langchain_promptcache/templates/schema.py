"""A prompt template -> the schema of the prompts it makes.

The schema holds what every such prompt begins with, and the documents; the rest, from the first
other variable on, is each prompt's own text. Knows no form of template.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count
from pathlib import PurePath
from re import sub
from typing import Any

from langchain_core.documents import Document
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate
from langchain_core.prompts.string import StringPromptTemplate

from langchain_promptcache.documents import DocumentSource, documents_of, text_of
from langchain_promptcache.templates.chat import turns_of
from langchain_promptcache.templates.parts import Fixed, Opaque, Turn, Variable
from langchain_promptcache.templates.strings import parts_of
from promptcache.errors import TemplateError, valid
from promptcache.pml import Collection, Module, Role, Schema, Text
from promptcache.pml.checks import RESERVED, ROLES
from promptcache.pml.tree import Node

DOCUMENT_VARIABLE = "context"
"""The variable that LangChain's own chains put documents into."""
NAMED_BY = ("title", "source", "id")
"""The metadata that a document's module is called after."""


def schema_from_prompt(
    prompt: BasePromptTemplate[Any],
    documents: DocumentSource | None = None,
    *,
    document_variable: str = DOCUMENT_VARIABLE,
    name: str | None = None,
) -> Schema:
    """The schema of the prompts that a LangChain prompt template makes.

    Where `document_variable` stands, the schema has a collection, which documents join at run
    time; with `documents` given, it has each of them as a module instead. `name` is the schema's.

    Raises TemplateError where the template has no such variable, or where it cannot be known what
    its prompts have in front of the documents, and PromptError for what is not a document.
    """
    turns = list(_turns(prompt))
    nodes: list[Node] = (
        [Collection(_element(document_variable))] if documents is None else [*_modules(documents)]
    )
    roles = _Roles(document_variable, nodes)
    for turn in turns:
        roles.add(turn)
    roles.check_documents(turns)
    children = tuple(roles.finished)
    return Schema(name or f"prompt-{_digest(children)}", children)


def _turns(prompt: BasePromptTemplate[Any]) -> Iterator[Turn]:
    if isinstance(prompt, ChatPromptTemplate):
        return turns_of(prompt)
    if isinstance(prompt, StringPromptTemplate):  # chat models get its text as the user's
        return iter([Turn("user", tuple(parts_of(prompt, {})))])
    raise TemplateError(
        f"{type(prompt).__name__} cannot become a schema; expected a ChatPromptTemplate or a "
        "PromptTemplate"
    )


@dataclass(slots=True)
class _Cut:
    """Where the text that all prompts share ends, and what stands there."""

    turn: Turn
    part: Variable | Opaque


class _Roles:
    """The role elements of a schema, from a template's turns in order."""

    def __init__(self, document_variable: str, documents: list[Node]) -> None:
        self.finished: list[Role] = []
        self._variable = document_variable
        self._documents = documents
        self._placed = False
        self._cut: _Cut | None = None

    def add(self, turn: Turn) -> None:
        """Append what of a turn is fixed, and the documents if it holds them."""
        nodes: list[Node] = []
        for part in turn.parts:
            if part == Variable(self._variable) and not self._placed:
                self._check_beginning(turn)
                nodes += self._documents
                self._placed = True
            elif isinstance(part, Fixed):
                nodes += [Text(part.text)] if self._cut is None else []
            elif self._cut is None:
                self._cut = _Cut(turn, part)
                nodes = _without_last_space(nodes)
        if nodes and turn.role not in ROLES:
            raise TemplateError(f"{turn.role!r} is no role of PML{valid(str(turn.role), ROLES)}")
        if nodes and turn.role is not None:
            self.finished.append(Role(turn.role, tuple(nodes)))

    def _check_beginning(self, turn: Turn) -> None:
        """Prompts that differ within an earlier message have no beginning to encode after."""
        cut = self._cut
        if cut is None or cut.turn is turn or cut.turn.role is None:
            return
        raise TemplateError(
            f"{_named(cut.part)} stands in a message before that of {self._variable!r}, so "
            "documents have another beginning in every prompt: give it a value with "
            "prompt.partial(...), or cache documents without a prompt, and they are encoded "
            "after what the first prompt shows"
        )

    def check_documents(self, turns: Iterable[Turn]) -> None:
        """Raise TemplateError if no turn had the documents."""
        if self._placed:
            return
        parts = [part for turn in turns for part in turn.parts]
        names = {part.name for part in parts if isinstance(part, Variable)}
        opaque = [part.what for part in parts if isinstance(part, Opaque)]
        hidden = f"; not looked into: {', '.join(opaque)}" if opaque else ""
        raise TemplateError(
            f"the prompt has no variable {self._variable!r} for documents; name another with "
            f"document_variable=...{valid(self._variable, names, what='variables')}{hidden}"
        )


def _without_last_space(nodes: list[Node]) -> list[Node]:
    """Leave white space before a variable to the prompt: tokenizers join it to the next word."""
    match nodes:
        case [*before, Text(text=text)]:
            return [*before, *([Text(text.rstrip())] if text.strip() else [])]
    return nodes


def _named(part: Variable | Opaque) -> str:
    return f"the variable {part.name!r}" if isinstance(part, Variable) else part.what


def _modules(documents: DocumentSource) -> Iterator[Module]:
    taken: set[str] = set()
    for document in documents_of(documents):
        if not (text := text_of(document)).strip():
            continue
        title = name = _element(_title(document))
        for number in count(2):
            if name not in taken:
                break
            name = f"{title}-{number}"
        taken.add(name)
        yield Module(name, (Text(text),))


def _title(document: Document | str) -> str:
    if isinstance(document, str):
        return "document"
    said = next((document.metadata[n] for n in NAMED_BY if document.metadata.get(n)), None)
    return PurePath(str(said or document.id or "document")).stem


def _element(text: str) -> str:
    """A name that PML accepts, as near to `text` as can be."""
    name = sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "document"
    return f"_{name}" if name[0].isdigit() or name in RESERVED else name


def _digest(children: tuple[Role, ...]) -> str:
    return blake2b(repr(children).encode(), digest_size=4).hexdigest()
