"""A schema or module that is being laid out: its spots, what can be imported at them, its text.

Knows the schema's side only: what a prompt asks for is matched in `match.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from promptcache.pml.dialogue import Speaker
from promptcache.pml.prompt import Argument
from promptcache.pml.schema import Scaffold, Schema
from promptcache.pml.tree import Collection, Module, Node, Param, Role, Text, Union
from promptcache.segments import Bond, Hole, Kind, Segment

UNCACHED = 'its module has cache="false"'
CLOSED = "the parameter {!r} has no argument and no default: its place is closed"


@dataclass(frozen=True, slots=True)
class Spot:
    """A node in the flow of the text, role elements rolled out."""

    number: int
    node: Node
    speaker: Speaker | None
    """The role element, of the schema, that the node stands in."""


@dataclass(frozen=True, slots=True)
class Target:
    """What an import can name: a module at a spot, a member of the union there, a collection."""

    spot: Spot
    node: Module | Collection


@dataclass(frozen=True, slots=True)
class Frame:
    """What `resolve` walks through: the spots in order, and names to import."""

    path: str
    """The dotted name of the schema or module."""
    what: str
    """The same in words, for errors."""
    spots: tuple[Spot, ...]
    preamble: int = 0
    """How many spots stand before the first module, union or collection; 0 inside a module."""
    module: Module | None = None
    arguments: Mapping[str, Argument] = field(default_factory=dict)
    scaffolds: tuple[Scaffold, ...] = ()
    bond: Bond | None = None
    """The scaffold that serves the module in this prompt."""
    targets: Mapping[str, Target] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", {t.node.name: t for t in _targets(self.spots)})

    @classmethod
    def of_schema(cls, schema: Schema) -> Frame:
        """The frame at the top."""
        spots = tuple(_spots(schema.children, schema.name))
        selectable = (n for n, s in enumerate(spots) if not isinstance(s.node, Text))
        preamble = next(selectable, len(spots))
        what = f"the schema {schema.name!r}"
        return cls(schema.name, what, spots, preamble, scaffolds=schema.scaffolds)

    @classmethod
    def of_module(
        cls,
        module: Module,
        path: str,
        speaker: Speaker | None,
        arguments: Mapping[str, Argument],
        bond: Bond | None = None,
    ) -> Frame:
        """The frame of an imported module; `speaker` is the role element around it."""
        spots = tuple(_spots(module.children, path, speaker))
        what = f"the module {module.name!r}"
        return cls(path, what, spots, module=module, arguments=arguments, bond=bond)

    def text(self, spot: Spot) -> Segment:
        """The segment of a text spot: the module's own text, or fixed text of the schema."""
        assert isinstance(spot.node, Text)
        text = spot.node.text
        if self._lends_space(spot.number):
            text = text[:-1]
        if self.module:
            if self.module.cache:
                return Segment(text, Kind.MODULE, self.path, bond=self.bond)
            return Segment(text, note=UNCACHED)
        if spot.number < self.preamble:
            return Segment(text, preamble=True)
        fixed = self.spots[self.preamble : spot.number + 1]
        number = sum(isinstance(other.node, Text) for other in fixed)
        return Segment(text, Kind.MODULE, f"{self.path}.#{number}", anonymous=True)

    def argument(self, spot: Spot) -> Segment:
        """The segment of a parameter's spot: its argument, its default, or nothing."""
        assert isinstance(spot.node, Param)
        assert self.module
        param, given = spot.node, self.arguments.get(spot.node.name)
        text = given.text if given else param.default
        note = CLOSED.format(param.name) if text is None else None
        if text is None:
            text = ""
        elif self._lends_space(spot.number - 1):
            text = " " + text
        return Segment(
            text,
            Kind.ARGUMENT,
            self.path if self.module.cache else None,
            hole=Hole(param.name, param.length),
            bond=self.bond,
            note=note,
            place=given.place if given else None,
        )

    def _lends_space(self, number: int) -> bool:
        """Whether the text at a spot ends in a space that belongs to the argument after it.

        Tokenizers join a space to the next word, and a hole that closes takes its space along.
        """
        if not 0 <= number < len(self.spots) - 1:
            return False
        before, after = self.spots[number], self.spots[number + 1]
        if not (isinstance(before.node, Text) and isinstance(after.node, Param)):
            return False
        text = before.node.text
        return before.speaker == after.speaker and text[-1:] == " " and not text[-2:-1].isspace()


def _spots(nodes: Iterable[Node], path: str, outer: Speaker | None = None) -> Iterator[Spot]:
    number = 0
    for position, node in enumerate(nodes):
        speaker = outer
        inner: tuple[Node, ...] = (node,)
        if isinstance(node, Role):
            speaker, inner = Speaker(node.role, f"{path}/{position}"), node.children
        for each in inner:
            yield Spot(number, each, speaker)
            number += 1


def _targets(spots: Iterable[Spot]) -> Iterator[Target]:
    for spot in spots:
        if isinstance(spot.node, Module | Collection):
            yield Target(spot, spot.node)
        elif isinstance(spot.node, Union):
            yield from (Target(spot, member) for member in spot.node.members)
