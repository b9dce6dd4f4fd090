"""LlamaIndex's prompt templates -> the schemas of the prompts they make.

A template renders itself, with marks in place of its values: so the text that every prompt has,
and the places of its documents, are read off what it writes, whatever kind of template it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate

from llama_index_promptcache.messages import to_engine
from promptcache.errors import TemplateError, valid
from promptcache.pml import Schema
from promptcache.templates import (
    Fixed,
    Names,
    Opaque,
    Outline,
    Outliner,
    Part,
    Spoken,
    Turn,
    Variable,
    named,
    spoken_of,
)

T = TypeVar("T")
Render = Callable[[BasePromptTemplate, Mapping[str, Any]], T]
"""Fills a template with values, as an LLM does it."""

PER_REQUEST = frozenset({"query_str", "existing_answer"})
"""What LlamaIndex's synthesizers fill in with `partial_format` for each question. Other values
that are filled in so are the user's own, and the same in every prompt."""

_MARK = re.compile("\ue000([0-9]+)\ue001")


def schema_of(
    template: BasePromptTemplate,
    render: Render[Sequence[ChatMessage]],
    llm: BaseLLM,
    documents: Sequence[str],
) -> Schema:
    """The schema of the prompts that a template makes; `documents` are variables that hold some.

    Raises TemplateError for a template that has none of these variables, or that cannot be
    rendered with marks in place of its values.
    """
    template = selected(template, llm)
    names = _varying(template)
    marked = list(spoken_of(to_engine(rendered_with_marks(template, names, {}, render))))
    outline = outline_of(marked, names, documents)
    if not outline.documents:
        raise _no_documents(documents, names)
    return named(outline, None)


def text_before_documents(
    template: BasePromptTemplate, render: Render[str], llm: BaseLLM, documents: Sequence[str]
) -> str:
    """What a template's prompts in plain text begin with, up to documents or another value.

    Raises TemplateError as `schema_of` does.
    """
    template = selected(template, llm)
    names = _varying(template)
    text = rendered_with_marks(template, names, {}, render)
    marks = list(_MARK.finditer(text))
    held = [names[int(mark[1])] in documents for mark in marks]
    if not any(held):
        raise _no_documents(documents, names)
    before = text[: marks[0].start()]
    # White space before a variable is left to the prompt: tokenizers join it to the next word.
    return before if held[0] else before.rstrip()


def selected(template: BasePromptTemplate, llm: BaseLLM) -> BasePromptTemplate:
    """The template that a selector chooses for an LLM; any other as it is."""
    while isinstance(template, SelectorPromptTemplate):
        template = template.select(llm)
    return template


def names_of(template: BasePromptTemplate) -> list[str]:
    """What a template's variables are called by those who fill it."""
    outer = {own: name for name, own in (template.template_var_mappings or {}).items()}
    own = [outer.get(name, name) for name in template.template_vars]
    return list(dict.fromkeys([*own, *(template.function_mappings or {})]))


def listening(template: BasePromptTemplate) -> tuple[BasePromptTemplate, dict[str, object]]:
    """The template, and what its functions give once it has been rendered, by variable."""
    results: dict[str, object] = {}

    def heard(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(**values: Any) -> object:
            results[name] = function(**values)
            return results[name]

        return call

    functions = {n: heard(n, f) for n, f in (template.function_mappings or {}).items()}
    return template.model_copy(update={"function_mappings": functions}), results


def rendered_with_marks(
    template: BasePromptTemplate, names: Sequence[str], given: Mapping[str, Any], render: Render[T]
) -> T:
    """What the template makes of the n-th mark for the value of the n-th name.

    Raises TemplateError where the template cannot do with text in place of its values.
    """
    marks = {name: f"\ue000{number}\ue001" for number, name in enumerate(names)}
    functions = {n: _constant(marks.get(n, "")) for n in template.function_mappings or {}}
    marked = template.model_copy(update={"function_mappings": functions})
    try:
        return render(marked, {**given, **marks})
    except Exception as error:  # whatever a template does with text in place of its values
        raise TemplateError(
            f"the template cannot be made with text for its values ({error}); cache documents "
            "without a prompt, and they are encoded after what the first prompt shows"
        ) from error


def filled(marked: Sequence[Spoken], values: Sequence[str]) -> list[Spoken]:
    """Marked messages with the n-th value in place of the n-th mark."""
    return [(role, _MARK.sub(lambda mark: values[int(mark[1])], text)) for role, text in marked]


def outline_of(marked: Sequence[Spoken], names: Sequence[str], documents: Sequence[str]) -> Outline:
    """The outline of marked messages, with a collection for each document variable there.

    What comes after the message with the last documents, the turns of a conversation for example,
    is each prompt's own.
    """
    turns = [Turn(role, tuple(_parts(text, names))) for role, text in marked]
    holding = [i for i, turn in enumerate(turns) if _variables(turn).intersection(documents)]
    shared = max(holding, default=-1) + 1
    own = (Opaque("what follows the documents"),)
    outliner = Outliner(documents, {}, Names())
    for turn in (*turns[:shared], *(Turn(turn.role, own) for turn in turns[shared:])):
        outliner.add(turn)
    return outliner.finished()


def _parts(text: str, names: Sequence[str]) -> Iterator[Part]:
    for number, piece in enumerate(_MARK.split(text)):
        if number % 2:
            yield Variable(names[int(piece)])
        elif piece:
            yield Fixed(piece)


def _variables(turn: Turn) -> set[str]:
    return {part.name for part in turn.parts if isinstance(part, Variable)}


def _constant(mark: str) -> Callable[..., str]:
    return lambda **_: mark


def _varying(template: BasePromptTemplate) -> list[str]:
    """The variables whose values are not the same in every prompt."""
    fixed = template.kwargs.keys() - PER_REQUEST
    return [name for name in names_of(template) if name not in fixed]


def _no_documents(wanted: Sequence[str], names: Sequence[str]) -> TemplateError:
    hint = valid("".join(wanted[:1]), names, what="variables")
    return TemplateError(
        f"the template has no variable {' or '.join(map(repr, wanted))} for documents; name "
        f"another with document_variables=... of the model{hint}"
    )
