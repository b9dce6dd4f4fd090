"""What each statement of a prompt program becomes, and the scope that it stands in.

Knows nothing of Python's syntax.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from inspect import Parameter

from promptcache.errors import PromptError, kind_of
from promptcache.pml.checks import RESERVED
from promptcache.pml.programs.expressions import Values, as_name
from promptcache.pml.programs.source import Source
from promptcache.pml.prompt import Argument, Import, Turn
from promptcache.pml.tree import Node, Text

Piece = Argument | Import | Text | Turn
Ask = Callable[[Values], Iterable[Piece]]


@dataclass(frozen=True, slots=True)
class Part:
    """What a statement gives a schema, and what it asks of it in a call."""

    nodes: tuple[Node, ...] = ()
    ask: Ask | None = None
    own: bool = False
    """Whether it is the prompt's own text, which stands behind all of the schema's."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a statement stands: directly in a module or not, in which message, and whether it is
    the last of all. `names` are those that its parent has given away.
    """

    in_module: bool
    names: set[str] = field(default_factory=set)
    role: str | None = None
    last: bool = True

    def name(self, label: str) -> str:
        """A name that nothing beside it has."""
        name = as_name(label)
        if not name or not (name[0].isalpha() or name[0] == "_") or name in RESERVED:
            name = f"if-{name}".strip("-")
        free, number = name, 1
        while free in self.names:
            number += 1
            free = f"{name}-{number}"
        self.names.add(free)
        return free

    def module(self) -> Scope:
        """The scope inside a module that stands here."""
        return replace(self, in_module=True, names=set())


def nodes_of(parts: Iterable[Part]) -> tuple[Node, ...]:
    """The nodes of some parts."""
    return tuple(node for part in parts for node in part.nodes)


def asked(parts: Iterable[Part], values: Values) -> list[Piece]:
    """What some parts ask of the schema, given the arguments of a call."""
    return [piece for part in parts if part.ask for piece in part.ask(values)]


def imported(name: str, parts: Iterable[Part], values: Values) -> Import:
    """The import of a module that is made of some parts."""
    pieces = asked(parts, values)
    arguments = tuple(piece for piece in pieces if isinstance(piece, Argument))
    children = tuple(piece for piece in pieces if isinstance(piece, Text | Import))
    return Import(name, arguments, children)


def checked(source: Source, arguments: Mapping[str, object]) -> Values:
    """The arguments of a call with the defaults of those left out.

    Raises PromptError for a parameter that is given something other than text, or nothing.
    """
    values = {
        name: each.default
        for name, each in source.given.items()
        if each.default is not Parameter.empty
    } | dict(arguments)
    for name, given in source.given.items():
        if given.length is not None and not isinstance(values[name], str | None):
            raise PromptError(f"{source.name}(): {name} is {kind_of(values[name])}, expected text")
    return values
