"""One prompt of a template -> its messages, which know the PML that says the same.

Documents are found in the values of the template's document variables: the registered ones, and
where there are none, the passages between blank lines, which is where LlamaIndex joins nodes.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import BasePromptTemplate

from llama_index_promptcache.marking import Marks, Render, chosen_by, listening
from llama_index_promptcache.messages import to_engine
from llama_index_promptcache.templates import outline_of, turns_of, up_to_documents, variables_of
from promptcache.errors import PromptCacheError, TemplateError, kind_of
from promptcache.pml import Prompt, Schema
from promptcache.templates import Filling, Outline, Region, Spoken, align, named, spoken_of

log = logging.getLogger("promptcache")

SHORTEST = 32
"""Characters of the shortest passage that is worth being a module."""
_BLANK = re.compile(r"\n[^\S\n]*\n\s*")
_NUMBER = re.compile(r"\ASource \d+:(\n|\Z)")
"""What CitationQueryEngine writes in front of a node; another number in every prompt."""

_WORD = re.compile(r"\w{3}")
"""What tells a text from a mark in front of one."""

Find = Callable[[str], Sequence[str]]
"""The registered documents in a text, in order."""


@dataclass(frozen=True, slots=True)
class Translation:
    """A prompt in PML. `passages` are the parts of its documents that nobody registered; `notes`
    say what became of them.
    """

    schema: Schema
    prompt: Prompt
    documents: Mapping[str, str]
    passages: tuple[str, ...]
    notes: tuple[str, ...]


class TranslatedMessages(list[ChatMessage]):
    """Messages, and the PML that says the same: what a template hands to an LLM of ours.

    Anything else that takes messages sees a list of them.
    """

    def __init__(self, messages: Iterable[ChatMessage], translation: Translation) -> None:
        super().__init__(messages)
        self._translation = translation
        self._said = to_engine(self)

    @property
    def translation(self) -> Translation | None:
        """The PML; None once the messages were changed."""
        return self._translation if to_engine(self) == self._said else None


@dataclass(frozen=True, slots=True)
class Translator:
    """Translates the prompts of one LLM."""

    llm: BaseLLM
    render: Render[list[ChatMessage]]
    find: Find
    variables: Sequence[str]
    """Those that hold documents."""
    cut_passages: bool

    def messages(self, template: BasePromptTemplate, given: Mapping[str, Any]) -> list[ChatMessage]:
        """The template's messages, with their PML where they hold documents and can be said so."""
        heard, results = listening(template, self.llm)
        messages = self.render(heard, given)
        values = {**chosen_by(template, self.llm).kwargs, **given, **results}
        try:
            translation = self._translated(_Filled(template, given, values, messages))
        except PromptCacheError as error:
            log.info("a prompt goes without PML: %s", error)
            return messages
        return messages if translation is None else TranslatedMessages(messages, translation)

    def _translated(self, filled: _Filled) -> Translation | None:
        varying, documents = variables_of(filled.template, self.llm, self.variables, filled.given)
        values = filled.values
        if not values.keys() & set(documents):
            return None
        names = list(dict.fromkeys([*varying, *filled.given]))
        outline = self._outline(filled, names, documents)
        try:
            return self._aligned(filled, outline)
        except TemplateError:
            # It may have left out what stands around a value that is not there.
            there = [name for name in names if name in values and not _is_switch(values[name])]
            if there == names:
                raise
            return self._aligned(filled, self._outline(filled, there, documents))

    def _outline(self, filled: _Filled, names: Sequence[str], documents: Sequence[str]) -> Outline:
        """What the template writes whatever these variables hold."""
        marks = Marks(names)
        shown = up_to_documents(filled.template, self.llm, documents)
        marked = marks.rendered(shown, self.llm, filled.given, self.render)
        return outline_of(turns_of(_said(marked), marks), documents)

    def _aligned(self, filled: _Filled, outline: Outline) -> Translation | None:
        if not outline.documents:
            return None
        values = filled.values
        found = {
            c: self._found(v.name, values.get(v.name, "")) for c, v in outline.documents.items()
        }
        schema = named(outline, None)
        regions = {collection: each.region for collection, each in found.items()}
        prompt, documents = align(schema, outline, _said(filled.messages), Filling(regions, {}))
        unknown = tuple(text for each in found.values() for text in each.unknown)
        notes = tuple(each.note for each in found.values() if each.note)
        return Translation(schema, prompt, documents, unknown, notes)

    def _found(self, variable: str, value: object) -> Found:
        """What the value of a document variable consists of."""
        text = str(value)
        documents: list[str] = []
        unknown: list[str] = []
        passages: list[str] = []
        computed = 0
        for piece, known in _cut(text, self.find(text)):
            if known:
                documents.append(piece)
            elif stripped := piece.strip():
                unknown.append(stripped)
                parts = [_NUMBER.sub("", part) for part in _BLANK.split(stripped)]
                cut = [p for p in parts if self._is_module(p, value) and p not in documents]
                documents += cut
                passages += cut
                computed += sum(bool(_WORD.search(p)) and p not in documents for p in parts)
        note = _note(variable, value, len(passages), computed)
        return Found(Region(tuple(documents), text), unknown, note)

    def _is_module(self, passage: str, value: object) -> bool:
        return self.cut_passages and len(passage) >= SHORTEST and not _is_printed(value)


@dataclass(frozen=True, slots=True)
class _Filled:
    """A template, what it was given for one prompt, the values of all its variables, and the
    messages that it made of them.
    """

    template: BasePromptTemplate
    given: Mapping[str, Any]
    values: Mapping[str, object]
    messages: Sequence[ChatMessage]


@dataclass(frozen=True, slots=True)
class Found:
    """What a value consists of, the parts of it that nobody registered, and what they became."""

    region: Region
    unknown: Sequence[str]
    note: str | None


def _is_switch(value: object) -> bool:
    """Whether a template may use a value to choose what it writes, and not write it."""
    if isinstance(value, str | list | tuple | dict):
        return not value
    return value is None or isinstance(value, bool)


def _is_printed(value: object) -> bool:
    """Whether Python prints a value for its text, with quotes and escapes."""
    return not isinstance(value, str) and str(value) == repr(value)


def _note(variable: str, value: object, passages: int, computed: int) -> str | None:
    """What is to be said of a value's text that belongs to no registered document."""
    if _is_printed(value):
        return (
            f"{variable!r} was given as {kind_of(value)}, and the prompt holds what Python "
            "prints of it: text with line breaks or quotes in it is not found there. "
            "simple_summarize does so; with WholeNodePromptHelper it does not"
        )
    are = "is a module of its own" if passages == 1 else "are modules of their own"
    of_both = [f"{passages} {are}"] if passages else []
    of_both += [f"{computed} {'is' if computed == 1 else 'are'} computed"] if computed else []
    if not of_both:
        return None
    number = passages + computed
    return (
        f"{number} passage{'s' * (number > 1)} of {variable!r}, from one blank line to the next, "
        f"belong{'s' * (number == 1)} to no registered document: {', '.join(of_both)}"
    )


def _said(messages: Sequence[ChatMessage]) -> list[Spoken]:
    return list(spoken_of(to_engine(messages)))


def _cut(text: str, documents: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """The text as documents, in their order, and what stands between them."""
    at = 0
    for document in documents:
        start = text.find(document, at)
        yield text[at:start], False
        yield document, True
        at = start + len(document)
    yield text[at:], False
