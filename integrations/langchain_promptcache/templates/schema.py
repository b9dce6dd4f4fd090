"""A prompt template -> the schema of the prompts it makes. Knows no form of template."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from langchain_core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
)
from langchain_core.prompts.string import StringPromptTemplate

from langchain_promptcache.documents import DocumentSource
from langchain_promptcache.templates.chat import examples_of, turns_of
from langchain_promptcache.templates.formats import GIVEN
from langchain_promptcache.templates.naming import modules_of
from langchain_promptcache.templates.strings import parts_of
from promptcache.errors import TemplateError, valid
from promptcache.pml import Schema
from promptcache.templates import (
    Fixed,
    Names,
    Opaque,
    Outline,
    Outliner,
    Part,
    Turn,
    Variable,
    named,
    with_parameters,
)

DOCUMENT_VARIABLE = "context"
"""The variable that LangChain's own chains put documents into."""


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
    turns = [turn for turn in template_turns(prompt) if turn.role is None or _says_something(turn)]
    names = Names()
    modules = None if documents is None else list(modules_of(documents, names))
    outliner = Outliner([document_variable], {}, names)
    for turn in turns:
        outliner.add(turn, None if modules is None else lambda _: modules)
        if outliner.placed.get(document_variable) is turn:
            _check_beginning(outliner, turn, document_variable)
    _check_documents(outliner, turns, document_variable)
    return named(outliner.finished(), name)


def outline_of(
    prompt: BasePromptTemplate[Any],
    document_variables: Iterable[str],
    parameters: Mapping[str, int],
) -> Outline:
    """The outline of a template, with a collection for each document variable that it has.

    Raises TemplateError for a parameter that the template does not have, and for a document
    variable, unless it is the usual one.
    """
    turns = list(template_turns(prompt))
    present = {v.name for turn in turns for v in turn.parts if isinstance(v, Variable)}
    wanted = tuple(document_variables)
    for name in wanted:
        if name not in present and name != DOCUMENT_VARIABLE:
            hint = valid(name, present, what="variables")
            raise TemplateError(f"the prompt has no plain variable {name!r} for documents{hint}")
    for name in parameters:
        if name not in present:
            hint = valid(name, present, what="variables")
            raise TemplateError(f"the prompt has no plain variable {name!r} for a parameter{hint}")
    outliner = Outliner(wanted, parameters, Names())
    for turn in turns:
        outliner.add(with_parameters(turn, [name for name in parameters if name not in wanted]))
    return outliner.finished()


def template_turns(prompt: BasePromptTemplate[Any]) -> Iterator[Turn]:
    """The turns of any kind of template. Raises TemplateError for one of an unknown kind."""
    if isinstance(prompt, ChatPromptTemplate):
        return turns_of(prompt, dict.fromkeys(prompt.input_variables, GIVEN))
    if isinstance(prompt, FewShotChatMessagePromptTemplate):
        return examples_of(prompt)
    if isinstance(prompt, StringPromptTemplate):  # chat models get its text as the user's
        return iter([Turn("user", tuple(parts_of(prompt, {})))])
    what = type(prompt).__name__
    raise TemplateError(
        f"{what} cannot become a schema; expected a ChatPromptTemplate, a PromptTemplate or a "
        "few-shot prompt template"
    )


def _says_something(turn: Turn) -> bool:
    return any(not isinstance(part, Fixed) or part.text for part in turn.parts)


def _check_beginning(outliner: Outliner, turn: Turn, variable: str) -> None:
    """Prompts that differ within an earlier message have no beginning to encode after."""
    if outliner.cut_at is None:
        return
    cut, part = outliner.cut_at
    if cut is turn or cut.role is None:
        return
    raise TemplateError(
        f"{_described(part)} stands in a message before that of {variable!r}, so "
        "documents have another beginning in every prompt: give it a value with "
        "prompt.partial(...), or cache documents without a prompt, and they are encoded "
        "after what the first prompt shows"
    )


def _check_documents(outliner: Outliner, turns: Iterable[Turn], variable: str) -> None:
    if variable in outliner.placed:
        return
    parts = [part for turn in turns for part in turn.parts]
    names = {part.name for part in parts if isinstance(part, Variable)}
    opaque = [part.what for part in parts if isinstance(part, Opaque)]
    hidden = f"; not looked into: {', '.join(opaque)}" if opaque else ""
    raise TemplateError(
        f"the prompt has no variable {variable!r} for documents; name another with "
        f"document_variable=...{valid(variable, names, what='variables')}{hidden}"
    )


def _described(part: Part) -> str:
    if isinstance(part, Variable):
        return f"the variable {part.name!r}"
    return part.what if isinstance(part, Opaque) else "a selector of examples"
