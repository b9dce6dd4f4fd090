"""Text of a file -> elements with places. Knows XML, and nothing of PML but its limits.

Read by expat rather than lxml: only expat tells the column of an element, and a tag's column is
what a reader of an error needs. It loads nothing from outside, recovers from nothing, and a
DOCTYPE, the only door to entities, is refused where it begins.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from xml.parsers import expat

from promptcache.errors import PMLError
from promptcache.pml.checks import (
    DEPTH_LIMIT,
    ELEMENT_LIMIT,
    MARKUP_LIMIT,
    Problems,
    check_attribute,
    check_text,
    syntax_error,
)
from promptcache.segments import Place

BLANK = " \t\r\n"
"""XML's white space; a no-break space, for one, is text."""


@dataclass(slots=True)
class Chars:
    """A run of character data; comments and CDATA marks do not end one, elements do."""

    text: str
    place: Place
    preserve: bool = False
    """Whether `xml:space="preserve"` holds here."""


@dataclass(slots=True)
class Element:
    """An element as it was written."""

    tag: str
    attributes: dict[str, str]
    place: Place
    preserve: bool = False
    children: list[Element | Chars] = field(default_factory=list)

    @property
    def elements(self) -> list[Element]:
        """The elements that stand directly in the element."""
        return [child for child in self.children if isinstance(child, Element)]

    @property
    def text(self) -> str:
        """The character data that stands directly in the element."""
        return "".join(child.text for child in self.children if isinstance(child, Chars))


def read(text: str, source: str = "") -> Element:
    """The root element. PMLSyntaxError for whatever is not well-formed."""
    problems = Problems(source)
    with problems.noted():
        place = _first_surrogate(text) if isinstance(text, str) else None
        check_text(text, "the markup", place)
        if len(text) > MARKUP_LIMIT:
            raise syntax_error(
                f"the markup has {len(text):,} characters; it may have up to {MARKUP_LIMIT:,}",
                Place(1, 1),
            )
        return _Reader().read(text)
    raise problems.errors[0]


def _first_surrogate(text: str) -> Place | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        before = text[: error.start]
        return Place(before.count("\n") + 1, error.start - before.rfind("\n"))
    return None


class _Reader:
    def __init__(self) -> None:
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._chars
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._open: list[Element] = []
        self._elements = 0
        self._root: Element | None = None
        self._pieces: list[str] = []  # of the run being read: expat hands over a line at a time
        self._run_place = Place(1, 1)

    def read(self, text: str) -> Element:
        try:
            self._parser.Parse(text, True)
        except expat.ExpatError as error:
            raise self._not_well_formed(error) from None
        assert self._root is not None
        return self._root

    def _here(self) -> Place:
        return Place(self._parser.CurrentLineNumber, self._parser.CurrentColumnNumber + 1)

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._close_run()
        place = self._here()
        self._elements += 1
        if self._elements > ELEMENT_LIMIT:
            raise syntax_error(f"the markup has more than {ELEMENT_LIMIT:,} elements", place)
        if len(self._open) == DEPTH_LIMIT:
            raise syntax_error(f"elements nest deeper than {DEPTH_LIMIT} levels", place)
        for name, value in attributes.items():
            check_attribute(value, f"the attribute {name[:80]!r}", place)
        inherited = bool(self._open) and self._open[-1].preserve
        preserve = _preserve(attributes.pop("xml:space", None), inherited, place)
        element = Element(tag, attributes, place, preserve)
        if self._open:
            self._open[-1].children.append(element)
        else:
            self._root = element
        self._open.append(element)

    def _end(self, _tag: str) -> None:
        self._close_run()
        self._open.pop()

    def _chars(self, text: str) -> None:
        if not self._pieces:
            self._run_place = self._here()
        self._pieces.append(text)

    def _close_run(self) -> None:
        if self._pieces:
            inside = self._open[-1]
            run = Chars("".join(self._pieces), self._run_place, inside.preserve)
            inside.children.append(run)
            self._pieces.clear()

    def _doctype(self, *_: object) -> None:
        raise syntax_error("a DOCTYPE, and entities of your own, are not allowed", self._here())

    def _not_well_formed(self, error: expat.ExpatError) -> PMLError:
        reason = expat.ErrorString(error.code)
        if error.code == expat.errors.codes[expat.errors.XML_ERROR_UNDEFINED_ENTITY]:
            reason += ": there are &amp; &lt; &gt; &quot; &apos; and numeric ones such as &#10;"
        if self._open:
            inside = self._open[-1]
            reason += f", inside <{inside.tag[:80]}> which opens at {inside.place}"
        return syntax_error(f"not well-formed: {reason}", Place(error.lineno, error.offset + 1))


def _preserve(value: str | None, inherited: bool, place: Place) -> bool:
    if value is None:
        return inherited
    if value not in ("preserve", "default"):
        raise syntax_error(f"xml:space is 'preserve' or 'default', not {value[:80]!r}", place)
    return value == "preserve"
