"""Markup of a schema -> Schema. Knows the elements and their attributes.

What a node may contain and be called is checked by the nodes themselves (`tree.py`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

from promptcache.pml.checks import ROLES, Problems, reference_error, syntax_error
from promptcache.pml.elements import (
    check_attributes,
    check_empty,
    check_no_elements,
    decoded,
    decoded_attribute,
    either,
    required,
    unknown_element,
)
from promptcache.pml.files import read_beside, read_text
from promptcache.pml.schema import Scaffold, Schema
from promptcache.pml.tree import Collection, Module, Node, Param, Role, Text, Union
from promptcache.pml.whitespace import Flow, settle
from promptcache.pml.xml import BLANK, Chars, Element, read

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "schema": ("name",),
    "module": ("name", "cache", "src", "encoding"),
    "union": ("name", "default", "scaffold"),
    "param": ("name", "len", "length", "default", "scaffold", "encoding"),
    "parameter": ("name", "len", "length", "default", "scaffold", "encoding"),
    "collection": ("name", "separator", "encoding"),
    "text": ("src", "encoding"),
    "scaffold": ("name", "modules"),
    **dict.fromkeys(ROLES, ()),
}


def parse_schema(markup: str, *, base: Path | str | None = None, source: str = "") -> Schema:
    """The schema that the markup writes.

    `base` is the folder that `src` files are read from; `source` names the markup in errors.
    Raises PMLSyntaxError or PMLReferenceError with the line and column of the first error.
    """
    problems = Problems(source)
    if not isinstance(base, Path | str | None):
        problems.add(reference_error(f"base is {base!r:.80}, expected the path of a folder"))
    problems.raise_first()
    folder = None if base is None else Path(base)
    schema = schema_of(read(markup, source), folder, problems)
    problems.raise_first()
    assert schema is not None
    return schema


def load_schema(path: Path | str) -> Schema:
    """The schema in a file, whose folder is where its `src` files are."""
    if not isinstance(path, Path | str):
        raise reference_error(f"the file is {path!r:.80}, expected a path")
    path = Path(path)
    return parse_schema(read_text(path, str(path)), base=path.parent, source=str(path))


def schema_of(root: Element, base: Path | None, problems: Problems) -> Schema | None:
    """The schema of a root element, or None and the reasons among the problems."""
    if root.tag != "schema":
        problems.add(syntax_error(f"expected <schema>, found <{root.tag[:80]}>", root.place))
        return None
    scaffolds, rest = _without_scaffolds(root)
    return _Builder(base, problems).schema(settle(rest, _flow), scaffolds)


def _without_scaffolds(root: Element) -> tuple[list[Element], Element]:
    """The scaffolds of a schema, and the schema as if, like comments, they were not there."""
    scaffolds: list[Element] = []
    children: list[Element | Chars] = []
    for child in root.children:
        if isinstance(child, Element) and child.tag == "scaffold":
            scaffolds.append(child)
        elif isinstance(child, Chars) and children and isinstance(before := children[-1], Chars):
            children[-1] = replace(before, text=before.text + child.text)
        else:
            children.append(child)
    return scaffolds, replace(root, children=children)


def _flow(element: Element) -> Flow:
    if element.tag in ("schema", *ROLES):
        return Flow.MESSAGE
    if element.tag == "union":
        return Flow.CHOICE
    verbatim = "src" in element.attributes or "encoding" in element.attributes
    return Flow.PART if element.tag == "module" and not verbatim else Flow.CLOSED


class _Builder:
    """Builds nodes from settled elements; an element with an error becomes None."""

    def __init__(self, base: Path | None, problems: Problems) -> None:
        self._base = base
        self._problems = problems
        self._makers: dict[str, Callable[[Element], Node | None]] = {
            "module": self._module,
            "union": self._union,
            "param": self._param,
            "parameter": self._param,
            "collection": self._collection,
            "text": self._text,
            **dict.fromkeys(ROLES, self._role),
        }

    def schema(self, element: Element, scaffolds: Sequence[Element]) -> Schema | None:
        self._check_attributes(element)
        children = self._children(element)
        declared = [made for child in scaffolds if (made := self._scaffold(child)) is not None]
        if self._problems:
            declared = []  # a module that one names may be missing because it has an error
        with self._problems.noted(element.place):
            name = required(element, "name")
            return Schema(name, children, tuple(declared), place=element.place)
        return None

    def _scaffold(self, element: Element) -> Scaffold | None:
        with self._problems.noted(element.place):
            self._check_attributes(element)
            check_empty(element, "its modules are named by the attribute 'modules'")
            name, modules = required(element, "name"), required(element, "modules")
            return Scaffold(name, tuple(modules.split()), place=element.place)
        return None

    def _children(self, element: Element) -> tuple[Node, ...]:
        nodes = (self._node(child) for child in element.children)
        return tuple(node for node in nodes if node is not None)

    def _node(self, child: Element | Chars) -> Node | None:
        with self._problems.noted(child.place):
            if isinstance(child, Chars):
                return Text(child.text, place=child.place)
            maker = self._makers.get(child.tag)
            if maker is None:
                raise syntax_error(unknown_element(child, self._makers))
            self._check_attributes(child)
            return maker(child)
        return None

    def _check_attributes(self, element: Element) -> None:
        with self._problems.noted(element.place):
            check_attributes(element, ATTRIBUTES[element.tag])

    def _module(self, element: Element) -> Module:
        name = required(element, "name")
        cache = element.attributes.get("cache", "true")
        if cache not in ("true", "false"):
            raise syntax_error(f"cache is 'true' or 'false', not {cache[:80]!r}")
        verbatim = self._verbatim(element)
        children = self._children(element) if verbatim is None else (Text(verbatim),)
        return Module(name, children, cache == "true", place=element.place)

    def _text(self, element: Element) -> Text:
        verbatim = self._verbatim(element)
        if verbatim is None:
            check_no_elements(element)
            verbatim = element.text
        return Text(verbatim, place=element.place)

    def _verbatim(self, element: Element) -> str | None:
        """The text of a `src` file or of base64; None where the element has neither."""
        src, encoding = element.attributes.get("src"), element.attributes.get("encoding")
        if src is not None and encoding is not None:
            raise syntax_error(f"<{element.tag}> has both src and encoding: give one of them")
        if src is not None:
            check_empty(element, "its text is the file's")
            return read_beside(self._base, src)
        if encoding is not None:
            check_no_elements(element)
            return decoded(element.text, encoding)
        return None

    def _union(self, element: Element) -> Union | None:
        for child in element.children:
            if isinstance(child, Chars) and child.text.strip(BLANK):
                stray = child.text.strip(BLANK)[:40]
                message = f"a union holds modules only, not the text {stray!r}"
                self._problems.add(syntax_error(message, child.place))
        members = tuple(
            node for child in element.elements if (node := self._node(child)) is not None
        )
        default = either(element, "default", "scaffold")
        if len(members) < len(element.elements):
            if not members:
                return None
            default = None  # the member that it names may be one that has an error
        modules = cast("tuple[Module, ...]", members)  # the union itself refuses other nodes
        return Union(modules, element.attributes.get("name"), default, place=element.place)

    def _param(self, element: Element) -> Param:
        check_empty(element, "a param holds nothing")
        name = required(element, "name")
        length = either(element, "len", "length")
        if length is None:
            raise syntax_error(f"the param {name!r} needs len, the most tokens it may take")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            raise syntax_error(f"len is a whole number of tokens, not {length[:80]!r}")
        default = decoded_attribute(element, "default", either(element, "default", "scaffold"))
        return Param(name, int(length), default, place=element.place)

    def _collection(self, element: Element) -> Collection:
        check_empty(element, "a prompt says which documents it holds")
        name = required(element, "name")
        separator = decoded_attribute(element, "separator", element.attributes.get("separator"))
        if separator is None:
            return Collection(name, place=element.place)
        return Collection(name, separator, place=element.place)

    def _role(self, element: Element) -> Role:
        return Role(element.tag, self._children(element), place=element.place)
