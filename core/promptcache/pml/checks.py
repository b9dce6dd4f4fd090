"""What a name and a text may be, and how markup errors are made and gathered.

Knows nothing of elements, schemas or prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar
from xml.parsers import expat

from promptcache.errors import PMLError, PMLReferenceError, PMLSyntaxError
from promptcache.segments import Place

ROLES = ("system", "user", "assistant")
RESERVED = frozenset(
    {
        *ROLES,
        *("schema", "module", "union", "param", "parameter", "collection", "scaffold", "text"),
        *("prompt", "arg", "doc"),
    }
)
DEPTH_LIMIT = 100
"""How deep elements may nest: deeper is an attack or an accident, and would exhaust the stack."""
MARKUP_LIMIT = 100_000_000
"""How many characters markup may have."""
ELEMENT_LIMIT = 250_000
"""How many elements markup may have: each takes a hundred times the memory of its text."""
ATTRIBUTE_LIMIT = 1_000_000
"""How many characters an attribute may hold."""

T = TypeVar("T")

_NAME = re.compile(r"[^\W\d][\w.-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNWRITABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def syntax_error(message: str, place: Place | None = None) -> PMLSyntaxError:
    """Markup that PML does not have, at its place where that is known."""
    line, column = _position(place)
    return PMLSyntaxError(message, line=line, column=column)


def reference_error(message: str, place: Place | None = None) -> PMLReferenceError:
    """A name that does not fit, at its place where that is known."""
    line, column = _position(place)
    return PMLReferenceError(message, line=line, column=column)


def _position(place: Place | None) -> tuple[int, int]:
    return (place.line, place.column) if place else (0, 0)


def check_name(name: str, what: str, place: Place | None = None, *, element: bool = True) -> None:
    """Refuse what cannot be a name; `element` names become elements of a prompt."""
    if not isinstance(name, str):
        raise syntax_error(f"{what} is called {name!r:.80}: a name is text", place)
    if not name:
        raise syntax_error(f"{what} needs a name", place)
    if not _NAME.fullmatch(name) or not _is_xml_name(name):
        raise syntax_error(
            f"{name[:80]!r} cannot name {what}: a name is a letter or '_', "
            "then letters, digits, '_', '-' or '.'",
            place,
        )
    if element and name in RESERVED:
        raise syntax_error(f"{name!r} cannot name {what}: it is an element of PML", place)


def _is_xml_name(name: str) -> bool:
    if name.isascii():
        return True
    # XML's letters are those of an older Unicode than Python's, so its own parser is asked.
    try:
        expat.ParserCreate().Parse(f"<{name}/>", True)
    except expat.ExpatError:
        return False
    return True


def check_text(text: str, what: str, place: Place | None = None) -> None:
    """Refuse what is not text, and text that no encoding can write."""
    if not isinstance(text, str):
        raise syntax_error(f"{what} is {text!r:.80}, which is not text", place)
    if found := _SURROGATE.search(text):
        raise syntax_error(
            f"{what} holds half of a surrogate pair (U+{ord(found.group()):04X}), "
            "which is not a character",
            place,
        )


def check_attribute(text: str, what: str, place: Place | None = None) -> None:
    """Refuse text that cannot be an attribute's value."""
    check_text(text, what, place)
    if len(text) > ATTRIBUTE_LIMIT:
        raise syntax_error(
            f"{what} holds {len(text):,} characters; an attribute holds up to {ATTRIBUTE_LIMIT:,}",
            place,
        )


def as_tuple(items: Iterable[T], where: str, place: Place | None = None) -> tuple[T, ...]:
    """The items in the hands of `where`. PMLSyntaxError for what holds none."""
    if not isinstance(items, Iterable):
        raise syntax_error(f"{where} holds {items!r:.80}: expected a tuple of nodes", place)
    return tuple(items)


def is_writable(text: str) -> bool:
    """Whether XML can carry the text; what it cannot goes through base64."""
    return not _UNWRITABLE.search(text)


class Problems:
    """The errors found in one source, in the order of their places.

    `parse_schema` and `parse_prompt` raise the first; `lint` shows all.
    """

    def __init__(self, source: str = "") -> None:
        self.source = source
        self._found: list[PMLError] = []

    def __bool__(self) -> bool:
        return bool(self._found)

    @property
    def errors(self) -> tuple[PMLError, ...]:
        """What was found so far."""
        return tuple(sorted(self._found, key=lambda error: (error.line, error.column)))

    def add(self, error: PMLError, place: Place | None = None) -> None:
        """Note an error; `place` stands in where the error has none."""
        line, column = error.line, error.column
        if not line and place:
            line, column = place.line, place.column
        self._found.append(type(error)(error.message, line=line, column=column, source=self.source))

    @contextmanager
    def noted(self, place: Place | None = None) -> Iterator[None]:
        """Note the error that ends the block, and go on after it."""
        try:
            yield
        except PMLError as error:
            self.add(error, place)

    def raise_first(self) -> None:
        """Raise the error that stands first in the source, if there is one."""
        if self._found:
            raise self.errors[0]
