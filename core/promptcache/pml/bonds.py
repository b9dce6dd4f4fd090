"""Which scaffolds a prompt uses: those whose modules it imports in order, side by side.

Knows imports and the schema's own text between them, and no segments.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence

from promptcache.pml.frame import Frame, Spot
from promptcache.pml.match import Request
from promptcache.pml.schema import Scaffold
from promptcache.pml.tree import Module, Text, Union
from promptcache.segments import Bond


def bonds_of(
    frame: Frame, requests: Sequence[Request], taken: Container[int]
) -> Mapping[str, Bond]:
    """The bond of each imported module that a scaffold serves, by the module's name.

    Where several scaffolds fit, the one that begins first is used, and of these the longest.
    """
    bonds: dict[str, Bond] = {}
    for names in _side_by_side(frame, requests, taken) if frame.scaffolds else ():
        place = 0
        while place < len(names):
            scaffold = _longest_at(place, names, frame.scaffolds)
            if scaffold is None:
                place += 1
                continue
            paths = tuple(f"{frame.path}.{name}" for name in scaffold.modules)
            bond = Bond(f"{frame.path}.{scaffold.name}", paths)
            bonds.update(dict.fromkeys(scaffold.modules, bond))
            place += len(paths)
    return bonds


def _longest_at(place: int, names: Sequence[str], scaffolds: Sequence[Scaffold]) -> Scaffold | None:
    fitting = [s for s in scaffolds if tuple(names[place : place + len(s.modules)]) == s.modules]
    return max(fitting, key=lambda scaffold: len(scaffold.modules), default=None)


def _side_by_side(
    frame: Frame, requests: Sequence[Request], taken: Container[int]
) -> Iterator[list[str]]:
    """Names of imported modules, those together that nothing else is said between."""
    names: list[str] = []
    done = frame.preamble
    for request in requests:
        wanted = request.piece
        target = None if isinstance(wanted, Text) else frame.targets[wanted.name]
        if target is None or not isinstance(target.node, Module):
            yield names
            names = []
        if target is None:
            continue
        spot = target.spot.number
        if any(_speaks(between, taken) for between in frame.spots[done:spot]):
            yield names
            names = []
        if isinstance(target.node, Module):
            names.append(target.node.name)
        done = max(done, spot)
    yield names


def _speaks(spot: Spot, taken: Container[int]) -> bool:
    """Whether a spot that is passed says something: fixed text, or the default of a union."""
    if isinstance(spot.node, Union):
        return spot.node.default is not None and spot.number not in taken
    return isinstance(spot.node, Text)
