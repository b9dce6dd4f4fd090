"""The nodes that a schema is made of, and what each may contain.

Built by `parse_schema` from markup, or in Python by whoever translates templates. A node checks
itself as it is made, so an invalid one does not exist; the error has a place when the node
came from markup. Texts are verbatim: white space was settled when the markup was read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from promptcache.errors import valid
from promptcache.pml.checks import (
    ROLES,
    as_tuple,
    check_attribute,
    check_name,
    check_text,
    reference_error,
    syntax_error,
)
from promptcache.segments import Place

LENGTH_LIMIT = 1_000_000
"""The longest parameter, in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What has a place in markup, where it came from markup."""

    place: Place | None = field(default=None, compare=False, repr=False)
    """Where the node began in its markup."""


@dataclass(frozen=True, slots=True)
class Text(Placed):
    """Fixed text: a module's own, or the schema's, which is then part of every prompt."""

    text: str

    def __post_init__(self) -> None:
        check_text(self.text, "a text", self.place)


@dataclass(frozen=True, slots=True)
class Param(Placed):
    """A hole in a module for an argument of at most `length` tokens.

    `default` is the text used when a prompt gives no argument; without one the hole closes.
    """

    name: str
    length: int
    default: str | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "a param", self.place, element=False)
        is_whole = isinstance(self.length, int) and not isinstance(self.length, bool)
        if not (is_whole and 1 <= self.length <= LENGTH_LIMIT):
            raise syntax_error(
                f"the param {self.name!r} has len {self.length!r:.80}: "
                f"it is a number of tokens from 1 to {LENGTH_LIMIT:,}",
                self.place,
            )
        if self.default is not None:
            check_attribute(self.default, f"the default of {self.name!r}", self.place)


@dataclass(frozen=True, slots=True)
class Module(Placed):
    """Text that a prompt may import by name. With `cache` False it is computed each time."""

    name: str
    children: tuple[Node, ...] = ()
    cache: bool = True

    def __post_init__(self) -> None:
        check_name(self.name, "a module", self.place)
        if not isinstance(self.cache, bool):
            raise syntax_error(
                f"the module {self.name!r} has cache {self.cache!r:.80}: it is True or False",
                self.place,
            )
        children = checked(self.children, f"the module {self.name!r}", IN_MODULE, self.place)
        object.__setattr__(self, "children", children)
        check_unique(children, f"the module {self.name!r}")


@dataclass(frozen=True, slots=True)
class Union(Placed):
    """Modules of which a prompt imports one; `default` is used when it imports none."""

    members: tuple[Module, ...]
    name: str | None = None
    default: str | None = None

    def __post_init__(self) -> None:
        if self.name is not None:
            check_name(self.name, "a union", self.place)
        members = as_tuple(self.members, "a union", self.place)
        object.__setattr__(self, "members", members)
        for member in members:
            _check_kind(member, "a union", (Module,))
        if not members:
            raise syntax_error("a union needs at least one module", self.place)
        names = [member.name for member in members]
        if self.default is not None and self.default not in names:
            raise reference_error(
                f"the union's default is {self.default!r}, which is not one of its modules"
                + valid(str(self.default), names),
                self.place,
            )


@dataclass(frozen=True, slots=True)
class Collection(Placed):
    """An open set of documents; `separator` stands between two of them in a prompt."""

    name: str
    separator: str = "\n\n"

    def __post_init__(self) -> None:
        check_name(self.name, "a collection", self.place)
        check_attribute(self.separator, f"the separator of {self.name!r}", self.place)


@dataclass(frozen=True, slots=True)
class Role(Placed):
    """A chat message, rendered through the model's own template. `role` is one of ROLES."""

    role: str
    children: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise syntax_error(
                f"{self.role!r} is no role{valid(str(self.role), ROLES)}", self.place
            )
        kinds = (*IN_MODULE, Collection)
        children = checked(self.children, f"<{self.role}>", kinds, self.place)
        object.__setattr__(self, "children", children)
        for inner in walk(children):
            if isinstance(inner, Role):
                raise syntax_error(
                    f"<{inner.role}> stands inside <{self.role}>: "
                    "a message does not contain another",
                    inner.place,
                )


Node = Text | Param | Module | Union | Collection | Role

IN_MODULE = (Text, Param, Module, Union, Role)


def walk(nodes: Iterable[Node]) -> Iterator[Node]:
    """Every node and what it contains, in the order of the markup."""
    for node in nodes:
        yield node
        if isinstance(node, Module | Role):
            yield from walk(node.children)
        elif isinstance(node, Union):
            yield from walk(node.members)


def unrolled(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes with each role element replaced by what stands in it: roles hold no names."""
    for node in nodes:
        if isinstance(node, Role):
            yield from unrolled(node.children)
        else:
            yield node


def checked(
    nodes: Iterable[Node], where: str, kinds: tuple[type[Node], ...], place: Place | None
) -> tuple[Node, ...]:
    """The children of `where` in normal form: texts that touch are one, empty ones are none."""
    children: list[Node] = []
    for node in as_tuple(nodes, where, place):
        _check_kind(node, where, kinds)
        if isinstance(node, Role):
            for inner in node.children:
                _check_kind(inner, where, kinds)
        if isinstance(node, Text):
            if not node.text:
                continue
            if children and isinstance(before := children[-1], Text):
                children[-1] = Text(before.text + node.text, place=before.place)
                continue
        children.append(node)
    return tuple(children)


def _check_kind(node: Node, where: str, kinds: tuple[type[Node], ...]) -> None:
    if isinstance(node, kinds):
        return
    if not isinstance(node, Node):
        raise syntax_error(f"{where} holds {node!r:.80}, which is not a PML node")
    if isinstance(node, Param):
        what, belongs = f"the param {node.name!r}", "it belongs in a module"
    elif isinstance(node, Collection):
        what = f"the collection {node.name!r}"
        belongs = "it belongs in the schema or a role element of it"
    else:
        tag = node.role if isinstance(node, Role) else type(node).__name__.lower()
        what = "text" if isinstance(node, Text) else f"<{tag}>"
        belongs = "it holds modules only"
    raise syntax_error(f"{what} cannot stand in {where}: {belongs}", node.place)


def check_unique(children: tuple[Node, ...], where: str) -> None:
    """Refuse a name that two of the children have; members of a union count among them."""
    seen: set[str] = set()
    for node in unrolled(children):
        members = node.members if isinstance(node, Union) else ()
        for named in (node, *members):
            name = None if isinstance(named, Text | Role) else named.name
            if name in seen:
                raise reference_error(f"{where} has the name {name!r} twice", named.place)
            if name is not None:
                seen.add(name)
