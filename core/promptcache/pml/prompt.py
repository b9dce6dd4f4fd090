"""A prompt as a value, and its markup: imports by name, their arguments, and text between them.

Knows no schema: whether the names exist is for `resolve` to say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from promptcache.errors import valid
from promptcache.html import block
from promptcache.pml.checks import (
    RESERVED,
    ROLES,
    Problems,
    as_tuple,
    check_attribute,
    check_name,
    check_text,
    reference_error,
    syntax_error,
)
from promptcache.pml.elements import (
    check_attributes,
    check_empty,
    check_no_elements,
    decoded,
    required,
)
from promptcache.pml.html import prompt_html
from promptcache.pml.tree import Text
from promptcache.pml.whitespace import Flow, settle
from promptcache.pml.xml import Chars, Element, read
from promptcache.segments import Place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    place: Place | None = field(default=None, compare=False, repr=False)
    """Where the piece began in its markup."""


@dataclass(frozen=True, slots=True)
class Argument(_Piece):
    """The text that fills a parameter, exactly as given."""

    name: str
    text: str

    def __post_init__(self) -> None:
        check_name(self.name, "an argument", self.place, element=False)
        check_text(self.text, f"the argument {self.name!r}", self.place)


@dataclass(frozen=True, slots=True)
class Document(_Piece):
    """A document of a collection, by its key."""

    key: str

    def __post_init__(self) -> None:
        if self.key == "":
            raise syntax_error("a doc needs a key", self.place)
        check_attribute(self.key, "a doc's key", self.place)


@dataclass(frozen=True, slots=True)
class Import(_Piece):
    """A module, with its arguments and what is imported inside it; or a collection's documents."""

    name: str
    arguments: tuple[Argument, ...] = ()
    children: tuple[Text | Import | Document, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "an import", self.place)
        where = f"<{self.name}>"
        object.__setattr__(self, "arguments", as_tuple(self.arguments, where, self.place))
        children = _joined(self.children, (Text, Import, Document), where, self.place)
        object.__setattr__(self, "children", children)
        seen: set[str] = set()
        for argument in self.arguments:
            if not isinstance(argument, Argument):
                raise syntax_error(
                    f"{where} is given {argument!r:.80}, which is not an Argument", self.place
                )
            if argument.name in seen:
                raise reference_error(
                    f"<{self.name}> is given the argument {argument.name!r} twice",
                    argument.place or self.place,
                )
            seen.add(argument.name)


@dataclass(frozen=True, slots=True)
class Turn(_Piece):
    """A chat message that the prompt itself opens."""

    role: str
    children: tuple[Text | Import, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise syntax_error(
                f"{self.role!r} is no role{valid(str(self.role), ROLES)}", self.place
            )
        children = _joined(self.children, (Text, Import), f"<{self.role}>", self.place)
        object.__setattr__(self, "children", children)


@dataclass(frozen=True, slots=True)
class Prompt(_Piece):
    """What one request asks of a schema."""

    schema: str
    children: tuple[Text | Import | Turn, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.schema, "a schema", self.place, element=False)
        children = _joined(self.children, (Text, Import, Turn), "the prompt", self.place)
        object.__setattr__(self, "children", children)

    def _repr_html_(self) -> str:
        return block(prompt_html(self))


PromptNode = Text | Import | Document | Turn
P = TypeVar("P", bound=PromptNode)


def _joined(
    children: Iterable[P], kinds: tuple[type[PromptNode], ...], where: str, place: Place | None
) -> tuple[P, ...]:
    """The children in normal form: texts that touch are one, empty ones are none."""
    joined: list[P] = []
    for child in as_tuple(children, where, place):
        if not isinstance(child, kinds):
            expected = ", ".join(kind.__name__ for kind in kinds)
            raise syntax_error(f"{child!r:.80} cannot stand here, only {expected}")
        if isinstance(child, Text):
            if not child.text:
                continue
            if joined and isinstance(before := joined[-1], Text):
                joined[-1] = replace(before, text=before.text + child.text)
                continue
        joined.append(child)
    return tuple(joined)


def parse_prompt(markup: str, *, source: str = "") -> Prompt:
    """The prompt that the markup writes; `source` names the markup in errors.

    Raises PMLSyntaxError or PMLReferenceError with the line and column of the first error.
    """
    problems = Problems(source)
    prompt = prompt_of(read(markup, source), problems)
    problems.raise_first()
    assert prompt is not None
    return prompt


def prompt_of(root: Element, problems: Problems) -> Prompt | None:
    """The prompt of a root element, or None and the reasons among the problems."""
    if root.tag != "prompt":
        problems.add(syntax_error(f"expected <prompt>, found <{root.tag[:80]}>", root.place))
        return None
    return _Builder(problems).prompt(settle(root, _flow))


def _flow(element: Element) -> Flow:
    if element.tag == "prompt":
        return Flow.PART  # its text goes on where the schema's ends
    if element.tag in ROLES:
        return Flow.MESSAGE
    return Flow.CLOSED if element.tag in ("arg", "doc", "text") else Flow.INSERT


class _Builder:
    """Builds the pieces from settled elements; an element with an error becomes None."""

    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def prompt(self, element: Element) -> Prompt | None:
        children: list[Text | Import | Turn] = []
        for child in element.children:
            with self._problems.noted(child.place):
                if isinstance(child, Element) and child.tag in ROLES:
                    children.append(self._turn(child))
                else:
                    children.append(self._piece(child))
        with self._problems.noted(element.place):
            check_attributes(element, ("schema",))
            return Prompt(required(element, "schema"), tuple(children), place=element.place)
        return None

    def _turn(self, element: Element) -> Turn:
        check_attributes(element, ())
        children: list[Text | Import] = []
        for child in element.children:
            with self._problems.noted(child.place):
                children.append(self._piece(child))
        return Turn(element.tag, tuple(children), place=element.place)

    def _import(self, element: Element) -> Import:
        arguments = [
            Argument(name, text, place=element.place) for name, text in element.attributes.items()
        ]
        children: list[Text | Import | Document] = []
        for child in element.children:
            with self._problems.noted(child.place):
                if isinstance(child, Element) and child.tag == "arg":
                    arguments.append(_argument(child))
                elif isinstance(child, Element) and child.tag == "doc":
                    children.append(_document(child))
                else:
                    children.append(self._piece(child))
        return Import(element.tag, tuple(arguments), tuple(children), place=element.place)

    def _piece(self, child: Element | Chars) -> Text | Import:
        """Text or an import, the pieces that may stand anywhere in a prompt."""
        if isinstance(child, Chars):
            return Text(child.text, place=child.place)
        if child.tag == "text":
            check_attributes(child, ("encoding",))
            check_no_elements(child)
            text = decoded(child.text, child.attributes.get("encoding"))
            return Text(text, place=child.place)
        if child.tag in RESERVED:
            raise syntax_error(_misplaced(child.tag))
        return self._import(child)


def _argument(element: Element) -> Argument:
    check_attributes(element, ("name", "encoding"))
    check_no_elements(element)
    text = decoded(element.text, element.attributes.get("encoding"))
    return Argument(required(element, "name"), text, place=element.place)


def _document(element: Element) -> Document:
    check_attributes(element, ("key", "encoding"))
    check_empty(element, "its text is found by its key")
    key = decoded(required(element, "key"), element.attributes.get("encoding"))
    return Document(key, place=element.place)


_HOMES = {
    "arg": "inside the import of a module",
    "doc": "inside the import of a collection",
    **dict.fromkeys(ROLES, "directly in <prompt>, around imports and text"),
}


def _misplaced(tag: str) -> str:
    if home := _HOMES.get(tag):
        return f"<{tag}> cannot stand here: it stands {home}"
    return f"<{tag}> cannot stand in a prompt: a prompt imports modules by their names"
