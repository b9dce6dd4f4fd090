"""A schema as a value: its nodes, its scaffolds, and the names that both may have.

A schema checks itself as it is made, so an invalid one does not exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from promptcache.errors import PMLReferenceError, valid
from promptcache.html import block
from promptcache.pml.checks import as_tuple, check_name, reference_error, syntax_error
from promptcache.pml.html import schema_html
from promptcache.pml.tree import (
    IN_MODULE,
    Collection,
    Module,
    Node,
    Param,
    Placed,
    Role,
    Text,
    Union,
    check_unique,
    checked,
    unrolled,
    walk,
)


@dataclass(frozen=True, slots=True)
class Scaffold(Placed):
    """Modules of a schema that are encoded together, in this order, so that each attends to those
    before it: for prompts that import exactly these, one right after the other.
    """

    name: str
    modules: tuple[str, ...]

    def __post_init__(self) -> None:
        check_name(self.name, "a scaffold", self.place)
        names = self.modules
        if isinstance(names, str):
            raise syntax_error(
                f"the scaffold {self.name!r} has modules {names!r:.80}: expected a tuple of names",
                self.place,
            )
        modules = as_tuple(names, f"the scaffold {self.name!r}", self.place)
        object.__setattr__(self, "modules", modules)
        for number, name in enumerate(modules):
            check_name(name, "a module", self.place)
            if name in modules[:number]:
                raise reference_error(
                    f"the scaffold {self.name!r} names {name!r} twice: a prompt imports a module "
                    "once",
                    self.place,
                )
        if len(modules) < 2:
            named = f"only {modules[0]!r}" if modules else "no module"
            raise syntax_error(
                f"the scaffold {self.name!r} names {named}: it needs two modules or more, "
                "which attend to each other",
                self.place,
            )


@dataclass(frozen=True, slots=True)
class Schema(Placed):
    """The modules that prompts may import, the fixed text around them, and the scaffolds.

    Scaffolds are no part of the text: where in the markup one stood does not matter.
    """

    name: str
    children: tuple[Node, ...] = ()
    scaffolds: tuple[Scaffold, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.name, "a schema", self.place, element=False)
        kinds = (*(kind for kind in IN_MODULE if kind is not Param), Collection)
        children = checked(self.children, "the schema", kinds, self.place)
        object.__setattr__(self, "children", children)
        check_unique(children, "the schema")
        _check_paths(children)
        scaffolds = as_tuple(self.scaffolds, "the schema", self.place)
        object.__setattr__(self, "scaffolds", scaffolds)
        _check_scaffolds(scaffolds, tuple(unrolled(children)))

    def _repr_html_(self) -> str:
        return block(schema_html(self))


def _check_paths(children: tuple[Node, ...]) -> None:
    """Refuse dots in names where they make two modules, or documents, of one dotted path."""
    modules = list(_paths(children, ""))
    collections = tuple(
        node.name + "." for node in unrolled(children) if isinstance(node, Collection)
    )
    seen: set[str] = set()
    for path, module in modules:
        if path in seen or path.startswith(collections):
            raise reference_error(
                f"the path {path!r} has two meanings: name one of them without the dot",
                module.place,
            )
        seen.add(path)


def _paths(nodes: Sequence[Node], above: str) -> Iterator[tuple[str, Module]]:
    for node in unrolled(nodes):
        for module in node.members if isinstance(node, Union) else (node,):
            if isinstance(module, Module):
                yield above + module.name, module
                yield from _paths(module.children, f"{above}{module.name}.")


def _check_scaffolds(scaffolds: Sequence[Scaffold], nodes: Sequence[Node]) -> None:
    """Refuse scaffolds that name what they cannot hold, and those that no prompt could use."""
    modules: dict[str, tuple[int, Module]] = {}
    taken: set[str] = set()
    for spot, node in enumerate(nodes):
        for member in node.members if isinstance(node, Union) else (node,):
            if isinstance(member, Module):
                modules[member.name] = spot, member
        names = (node, *(node.members if isinstance(node, Union) else ()))
        taken |= {each.name for each in names if not isinstance(each, Text | Role) and each.name}
    known: dict[tuple[str, ...], str] = {}
    for scaffold in scaffolds:
        if not isinstance(scaffold, Scaffold):
            raise syntax_error(f"the schema has {scaffold!r:.80}, which is not a Scaffold")
        what = f"the scaffold {scaffold.name!r}"
        if scaffold.name in taken:
            raise reference_error(
                f"the schema has the name {scaffold.name!r} twice", scaffold.place
            )
        taken.add(scaffold.name)
        for name in scaffold.modules:
            if name not in modules:
                raise _unknown(scaffold, name, modules, nodes)
            _check_member(scaffold, modules[name][1])
        _check_neighbours(scaffold, modules, nodes)
        if (other := known.get(scaffold.modules)) is not None:
            raise reference_error(
                f"{what} names the modules of {other!r} in the same order", scaffold.place
            )
        known[scaffold.modules] = scaffold.name


def _unknown(
    scaffold: Scaffold, name: str, modules: Mapping[str, object], nodes: Sequence[Node]
) -> PMLReferenceError:
    hint = valid(name, modules, what="modules")
    for node in nodes:
        if isinstance(node, Collection) and node.name == name:
            hint = f": {name!r} is a collection, whose documents each prompt chooses"
        if isinstance(node, Union) and node.name == name:
            names = ", ".join(member.name for member in node.members)
            hint = f": {name!r} is a union; name one of its modules ({names})"
    for outer in walk(nodes):
        inner = walk(outer.children) if isinstance(outer, Module) else ()
        if any(isinstance(node, Module) and node.name == name for node in inner):
            assert isinstance(outer, Module)
            hint = f": it stands inside {outer.name!r}, and a scaffold names modules of the schema"
            break
    return reference_error(
        f"the scaffold {scaffold.name!r} cannot hold {name!r}{hint}", scaffold.place
    )


def _check_member(scaffold: Scaffold, module: Module) -> None:
    why = None
    if not module.cache:
        why = 'it has cache="false", so it is computed each time'
    elif not any(isinstance(node, Text | Param) for node in unrolled(module.children)):
        why = "it has no text of its own"
    if why:
        raise reference_error(
            f"the scaffold {scaffold.name!r} cannot hold {module.name!r}: {why}", scaffold.place
        )


def _check_neighbours(
    scaffold: Scaffold, modules: Mapping[str, tuple[int, Module]], nodes: Sequence[Node]
) -> None:
    """Refuse members that no prompt can have side by side."""
    done = -1
    before = ""
    places: dict[int, str] = {}
    for name in scaffold.modules:
        spot = modules[name][0]
        if spot in places:
            raise reference_error(
                f"the scaffold {scaffold.name!r} cannot hold both {places[spot]!r} and {name!r}: "
                "they are of one union, and a prompt takes one of them",
                scaffold.place,
            )
        places[spot] = name
        between = [node for node in nodes[done + 1 : spot] if isinstance(node, Text)]
        if before and between:
            raise reference_error(
                f"no prompt can use the scaffold {scaffold.name!r}: the schema's text "
                f"{between[0].text.strip()[:40]!r} stands between {before!r} and {name!r}; "
                "make it part of one of them",
                between[0].place or scaffold.place,
            )
        done, before = max(done, spot), name
