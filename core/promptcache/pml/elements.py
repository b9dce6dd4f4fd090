"""What elements of schemas and prompts have in common: attributes, emptiness, encoded text."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection, Iterable

from promptcache.errors import valid
from promptcache.pml.checks import syntax_error
from promptcache.pml.xml import BLANK, Element


def check_attributes(element: Element, known: Iterable[str]) -> None:
    """Refuse an attribute that the element does not have."""
    known = tuple(known)
    for name in element.attributes:
        if name not in known:
            raise syntax_error(
                f"<{element.tag}> has no attribute {name[:80]!r}" + valid(name[:80], known),
                element.place,
            )


def required(element: Element, attribute: str) -> str:
    """The attribute's value; an error without it."""
    if not (value := element.attributes.get(attribute)):
        raise syntax_error(f"<{element.tag}> needs the attribute {attribute!r}", element.place)
    return value


def either(element: Element, name: str, old_name: str) -> str | None:
    """The value of an attribute that has an old name as well."""
    if name in element.attributes and old_name in element.attributes:
        raise syntax_error(
            f"<{element.tag}> has both {name!r} and {old_name!r}, its old name: give one of them",
            element.place,
        )
    return element.attributes.get(name, element.attributes.get(old_name))


def check_empty(element: Element, why: str) -> None:
    """Refuse content in an element that has none."""
    check_no_elements(element)
    if text := element.text.strip(BLANK):
        raise syntax_error(
            f"<{element.tag}> cannot hold the text {text[:40]!r}: {why}", element.place
        )


def check_no_elements(element: Element) -> None:
    """Refuse elements in an element that holds text alone."""
    for child in element.elements:
        raise syntax_error(f"<{child.tag[:80]}> cannot stand in <{element.tag}>", child.place)


def unknown_element(element: Element, known: Collection[str]) -> str:
    """Why an element is refused, with the elements that are valid in its place."""
    if element.tag == "scaffold":
        return "<scaffold> cannot stand here: it stands directly in <schema>, beside the modules"
    return f"there is no element <{element.tag[:80]}> here" + valid(element.tag[:80], known)


def decoded(text: str, encoding: str | None) -> str:
    """The text that an `encoding` attribute stands for."""
    if encoding is None:
        return text
    if encoding != "base64":
        raise syntax_error(f"encoding is 'base64', not {encoding[:80]!r}")
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("utf-8")
    except (binascii.Error, ValueError) as error:
        # UnicodeDecodeError and the error for non-ASCII input are ValueErrors too
        raise syntax_error(f"this is not UTF-8 text in base64: {error}") from None


def decoded_attribute(element: Element, name: str, value: str | None) -> str | None:
    """The text of an attribute that the element's `encoding` is for; None without the attribute."""
    encoding = element.attributes.get("encoding")
    if value is None and encoding is not None:
        raise syntax_error(
            f"<{element.tag}> has encoding {encoding[:80]!r} and no {name} to decode"
        )
    return None if value is None else decoded(value, encoding)


def encoded(text: str) -> str:
    """Text in the base64 that `decoded` reads."""
    return base64.b64encode(text.encode("utf-8")).decode("ascii")
