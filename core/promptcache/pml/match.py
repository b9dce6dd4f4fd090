"""What a prompt asks of a schema or module, held against what there is. Knows no segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from promptcache.errors import PMLReferenceError, valid
from promptcache.pml.checks import reference_error
from promptcache.pml.dialogue import Speaker
from promptcache.pml.frame import Frame, Target
from promptcache.pml.prompt import Argument, Document, Import, Prompt, Turn
from promptcache.pml.tree import Collection, Module, Param, Role, Text, Union, unrolled, walk


@dataclass(frozen=True, slots=True)
class Request:
    """A piece of the prompt, and the role element that it stands in."""

    piece: Text | Import
    speaker: Speaker | None


def requests_of(prompt: Prompt, frame: Frame) -> Iterator[Request]:
    """The pieces of the prompt in order, its turns rolled out."""
    for number, child in enumerate(prompt.children):
        if isinstance(child, Turn):
            speaker = _speaker(child, number, frame)
            yield from (Request(piece, speaker) for piece in child.children or (Text(""),))
        else:
            yield Request(child, None)


def _speaker(turn: Turn, number: int, frame: Frame) -> Speaker:
    """Whom a turn belongs to: a role element of the schema that it imports from, or itself."""
    for piece in turn.children:
        target = frame.targets.get(piece.name) if isinstance(piece, Import) else None
        if target and target.spot.speaker and target.spot.speaker.role == turn.role:
            return target.spot.speaker
    return Speaker(turn.role, f"prompt/{number}")


def taken_spots(frame: Frame, requests: Sequence[Request]) -> frozenset[int]:
    """The spots that the requests import from. PMLReferenceError for one that does not fit."""
    taken: dict[int, str] = {}
    for request in requests:
        wanted = request.piece
        if isinstance(wanted, Text):
            continue
        target = frame.targets.get(wanted.name)
        if target is None:
            raise _unknown(frame, wanted)
        _check_speaker(target, request)
        before = taken.get(target.spot.number)
        if before is not None and isinstance(target.node, Module):
            raise _taken_twice(before, wanted)
        taken[target.spot.number] = wanted.name
    return frozenset(taken)


def arguments_of(module: Module, wanted: Import) -> dict[str, Argument]:
    """The arguments by name. PMLReferenceError for one that the module has no parameter for."""
    names = [node.name for node in unrolled(module.children) if isinstance(node, Param)]
    for argument in wanted.arguments:
        if argument.name not in names:
            raise reference_error(
                f"the module {module.name!r} has no parameter {argument.name!r}"
                + valid(argument.name, names, what="parameters"),
                argument.place or wanted.place,
            )
    return {argument.name: argument for argument in wanted.arguments}


def children_of(module: Module, wanted: Import) -> list[Text | Import]:
    """What is imported, or written, inside the import of a module."""
    children: list[Text | Import] = []
    for child in wanted.children:
        if isinstance(child, Document):
            raise reference_error(
                f"{module.name!r} is a module, and documents belong to a collection",
                child.place or wanted.place,
            )
        children.append(child)
    return children


def keys_of(collection: Collection, wanted: Import, known: Mapping[str, str]) -> list[str]:
    """The keys of the documents that are imported from a collection."""
    for argument in wanted.arguments:
        raise reference_error(
            f"{collection.name!r} is a collection, which takes no argument {argument.name!r}",
            argument.place or wanted.place,
        )
    keys: list[str] = []
    for child in wanted.children:
        if not isinstance(child, Document):
            raise reference_error(
                f"<{collection.name}> is a collection: it holds <doc key=.../> and no "
                + ("text" if isinstance(child, Text) else f"<{child.name}>"),
                child.place or wanted.place,
            )
        if child.key not in known:
            hint = valid(child.key, known, what="documents")
            raise reference_error(f"there is no document {child.key!r}{hint}", child.place)
        keys.append(child.key)
    return keys


def _unknown(frame: Frame, wanted: Import) -> PMLReferenceError:
    nodes = [spot.node for spot in frame.spots]
    hint = valid(wanted.name, frame.targets, what="modules")
    for node in nodes:
        if isinstance(node, Param) and node.name == wanted.name:
            hint = f": it is a parameter; write it as an attribute or as <arg name={node.name!r}>"
        if isinstance(node, Union) and node.name == wanted.name:
            names = ", ".join(member.name for member in node.members)
            hint = f": it is a union; import one of its modules ({names})"
    for scaffold in frame.scaffolds:
        if scaffold.name == wanted.name:
            hint = f": it is a scaffold; import its modules ({', '.join(scaffold.modules)})"
    for target in frame.targets.values():
        if isinstance(target.node, Module) and wanted.name in _names_inside(target.node):
            hint = f": it stands inside {target.node.name!r} and is imported inside its import"
    return reference_error(f"{frame.what} has no module {wanted.name!r}{hint}", wanted.place)


def _names_inside(module: Module) -> set[str]:
    return {node.name for node in walk(module.children) if isinstance(node, Module)}


def _taken_twice(before: str, wanted: Import) -> PMLReferenceError:
    if before == wanted.name:
        return reference_error(f"the module {before!r} is imported twice", wanted.place)
    return reference_error(
        f"{before!r} and {wanted.name!r} are of one union, and a prompt takes one of them",
        wanted.place,
    )


def _check_speaker(target: Target, request: Request) -> None:
    """Refuse a module inside a role element that its own roles contradict."""
    if request.speaker is None:
        return
    place, name, around = request.piece.place, target.node.name, request.speaker.role
    own = target.spot.speaker
    if own and own.role != around:
        raise reference_error(
            f"{name!r} belongs to <{own.role}> in the schema and cannot stand in <{around}>", place
        )
    if isinstance(target.node, Module):
        inner = (node for node in walk(target.node.children) if isinstance(node, Role))
        for role in inner if own is None else ():
            raise reference_error(
                f"{name!r} holds a <{role.role}> of its own and cannot stand in <{around}>", place
            )
