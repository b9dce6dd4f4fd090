"""PML with variables in it: a prompt's markup as a template.

    <prompt schema="trip"><plan days="{days}"/><notes>{notes}</notes>{question}</prompt>

The markup is read before anything is filled in, so that a value is text and never markup. A
variable stands in a text, in an argument, or alone in the import of a collection, where it takes
documents. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompt_values import ChatPromptValue, PromptValue, StringPromptValue
from langchain_core.prompts.string import get_template_variables
from langchain_core.utils.formatting import formatter

from langchain_promptcache.templates.rendered import Rendered
from langchain_promptcache.templates.values import texts_given
from promptcache.errors import TemplateError
from promptcache.pml import (
    Argument,
    Collection,
    Document,
    Import,
    Prompt,
    Role,
    Schema,
    Text,
    Turn,
    find_schema,
    resolve,
)
from promptcache.pml.tree import walk
from promptcache.prompts import key_of
from promptcache.segments import Message

MESSAGES: Mapping[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}

Piece = Text | Import | Document | Turn


@dataclass(frozen=True, slots=True)
class Marked:
    """A schema, and a prompt for it with variables. Checks itself as it is made.

    `documents` are those that the markup itself names, by its names for them. Raises PMLError for
    an import that the schema does not have, and TemplateError for braces that make no variable.
    """

    schema: Schema
    prompt: Prompt
    documents: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        find_schema(self.prompt, {self.schema.name: self.schema})
        self.request(dict.fromkeys(self.input_variables, "?")).value()

    @property
    def input_variables(self) -> list[str]:
        """The names of the variables."""
        return sorted({name for text in _texts(self.prompt.children) for name in _names(text)})

    def request(self, variables: Mapping[str, Any]) -> MarkedRequest:
        """The prompt with its variables filled in."""
        filler = _Filler(self.schema, variables, self.documents)
        children = tuple(filler.filled(self.prompt.children))
        has_roles = any(
            isinstance(n, Role | Turn) for n in (*walk(self.schema.children), *children)
        )
        if not has_roles:  # chat models get it as the user's
            children = (Turn("user", children),)
        prompt = Prompt(self.schema.name, children)
        messages = resolve(self.schema, prompt, filler.found)
        return MarkedRequest(self.schema, prompt, filler.found, messages, has_roles, filler.joined)


@dataclass(frozen=True, slots=True)
class MarkedRequest:
    """One prompt of a `Marked`, and the messages that it stands for."""

    schema: Schema
    prompt: Prompt
    documents: Mapping[str, str]
    messages: tuple[Message, ...]
    has_roles: bool
    joined: bool
    """Whether documents came as one text, in which they are for the engine to recognise."""

    def value(self) -> PromptValue:
        """What a chain goes on with."""
        if not self.has_roles:
            return StringPromptValue(text=self.messages[0].text)
        said = [MESSAGES[m.role or "user"](content=m.text) for m in self.messages]
        return ChatPromptValue(messages=said)

    async def avalue(self) -> PromptValue:
        """The same: nothing in it waits."""
        return self.value()

    def rendered(self, value: PromptValue) -> Rendered:
        """The prompt in PML beside its value."""
        return Rendered(self.schema, self.prompt, self.documents, value)


class _Filler:
    """Fills variables in; a document that comes twice is imported once."""

    def __init__(
        self, schema: Schema, variables: Mapping[str, Any], documents: Mapping[str, str]
    ) -> None:
        self.found: dict[str, str] = {}
        """The documents that the prompt imports, by the keys that the engine knows them by."""
        self.joined = False
        self._variables = variables
        self._known = documents
        self._collections = [c.name for c in walk(schema.children) if isinstance(c, Collection)]
        self._taken: set[tuple[str, str]] = set()

    def filled(self, pieces: tuple[Any, ...]) -> Iterator[Any]:
        for piece in pieces:
            if isinstance(piece, Text):
                yield Text(self._text(piece.text))
            elif isinstance(piece, Turn):
                yield replace(piece, children=tuple(self.filled(piece.children)))
            elif piece.name in self._collections:
                yield from self._documents(piece)
            else:
                arguments = (Argument(a.name, self._text(a.text)) for a in piece.arguments)
                children = tuple(self.filled(piece.children))
                yield replace(piece, arguments=tuple(arguments), children=children)

    def _documents(self, wanted: Import) -> Iterator[Text | Import]:
        run: list[Text | Import | Document] = []
        for child in wanted.children:
            names = _names(child.text) if isinstance(child, Text) else []
            if isinstance(child, Document):
                key = child.key
                run += (
                    self._document(wanted.name, self._known[key]) if key in self._known else [child]
                )
            elif isinstance(child, Text) and len(names) == 1 and _is_alone(child.text, names[0]):
                given = self._variables[names[0]]
                if isinstance(given, str):
                    self.joined = self.joined or bool(given)
                    yield replace(wanted, children=tuple(run))
                    yield Text(given)
                    run = []
                else:
                    for text in texts_given(given, names[0]):
                        run += self._document(wanted.name, text)
            else:
                run.append(child)  # for `resolve` to refuse, with its place
        yield replace(wanted, children=tuple(run))

    def _document(self, collection: str, text: str) -> list[Document]:
        key, text = key_of(text), text.strip()
        if not text or (collection, key) in self._taken:
            return []
        self._taken.add((collection, key))
        self.found[key] = text
        return [Document(key)]

    def _text(self, text: str) -> str:
        return formatter.vformat(text, (), self._variables)


def _texts(pieces: tuple[Any, ...]) -> Iterator[str]:
    """Every text in which a variable may stand."""
    for piece in pieces:
        if isinstance(piece, Text):
            yield piece.text
        elif isinstance(piece, Import | Turn):
            yield from _texts(piece.children)
            if isinstance(piece, Import):
                yield from (argument.text for argument in piece.arguments)


def _names(text: str) -> list[str]:
    try:
        return get_template_variables(text, "f-string")
    except ValueError as error:
        raise TemplateError(
            f"{text[:60]!r} is no text with variables ({error}); a brace of the text is doubled"
        ) from None


def _is_alone(text: str, name: str) -> bool:
    return text.strip() == f"{{{name}}}"
