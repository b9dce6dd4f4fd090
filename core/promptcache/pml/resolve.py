"""Schema and Prompt -> messages made of segments. Knows no tokens, templates or models.

The order is the prompt's. Fixed text of the schema comes before the import that it stands before
and after the last one; the preamble comes before all else. A union that the prompt takes no
member of gives its default at its own place, like fixed text. The same holds inside a module:
its own text stays in its order, with what is imported inside it in between.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from promptcache.errors import PromptError, valid
from promptcache.pml.bonds import bonds_of
from promptcache.pml.checks import reference_error
from promptcache.pml.dialogue import Dialogue, Speaker
from promptcache.pml.frame import Frame, Spot
from promptcache.pml.match import (
    Request,
    arguments_of,
    children_of,
    keys_of,
    requests_of,
    taken_spots,
)
from promptcache.pml.prompt import Import, Prompt, Turn
from promptcache.pml.schema import Schema
from promptcache.pml.tree import Collection, Module, Param, Role, Text, Union, walk
from promptcache.segments import Bond, Kind, Message, Segment


def find_schema(prompt: Prompt, schemas: Mapping[str, Schema]) -> Schema:
    """The schema that the prompt names. PMLReferenceError with the valid names if none is."""
    if prompt.schema not in schemas:
        hint = valid(prompt.schema, schemas, what="schemas")
        raise reference_error(f"there is no schema {prompt.schema!r}{hint}", prompt.place)
    return schemas[prompt.schema]


def resolve(
    schema: Schema, prompt: Prompt, documents: Mapping[str, str] | None = None
) -> tuple[Message, ...]:
    """The messages that the prompt stands for; `documents` gives the text of each key.

    Segments are called after their modules by dotted paths: `trip.plan`, `trip.plan.city` for a
    module inside it, `trip.context.KEY` for a document, `trip.#2` for the second fixed text
    after the preamble. The messages' roles are told in `Dialogue`.

    Raises PMLReferenceError for a name that the schema does not have or that does not fit, and
    PromptError where no text comes of it all.
    """
    find_schema(prompt, {schema.name: schema})
    messages = _Resolver(schema, prompt, documents or {}).messages()
    if not any(message.text.strip() for message in messages):
        raise PromptError(
            f"the prompt for the schema {schema.name!r} has no text, so there is nothing to "
            "generate from: import a module or write a question"
        )
    return messages


class _Resolver:
    def __init__(self, schema: Schema, prompt: Prompt, documents: Mapping[str, str]) -> None:
        self._prompt = prompt
        self._documents = documents
        self._top = Frame.of_schema(schema)
        self._used: set[str] = set()
        nodes = (*walk(schema.children), *prompt.children)
        self._dialogue = Dialogue(has_roles=any(isinstance(n, Role | Turn) for n in nodes))

    def messages(self) -> tuple[Message, ...]:
        top = self._top
        for spot in top.spots[: top.preamble]:
            self._fixed(top, spot)
        self._lay_out(top, list(requests_of(self._prompt, top)), begin=top.preamble)
        return self._dialogue.messages()

    def _lay_out(self, frame: Frame, requests: Sequence[Request], begin: int = 0) -> None:
        """Say what is requested, and the frame's own text from the spot `begin` on around it."""
        taken = taken_spots(frame, requests)
        bonds = bonds_of(frame, requests, taken)
        left = sum(isinstance(request.piece, Import) for request in requests)
        done = begin if left else self._fixed_until(len(frame.spots), frame, begin)
        for request in requests:
            wanted = request.piece
            if isinstance(wanted, Text):
                self._dialogue.add(Segment(wanted.text), request.speaker)
                self._open(frame, request.speaker)
                continue
            spot = frame.targets[wanted.name].spot
            done = self._fixed_until(spot.number, frame, done, taken)
            speaker = spot.speaker or request.speaker
            self._import(frame, wanted, speaker, bonds.get(wanted.name))
            self._open(frame, request.speaker and speaker)
            left -= 1
            if not left:
                self._fixed_until(len(frame.spots), frame, done, taken)

    def _open(self, frame: Frame, speaker: Speaker | None) -> None:
        """Note that the prompt itself has a role element here."""
        if speaker and not frame.module:
            self._dialogue.open(speaker)

    def _fixed_until(self, end: int, frame: Frame, begin: int, taken: Container[int] = ()) -> int:
        """Say the fixed text of the spots from `begin` to `end`; gives where to go on."""
        for spot in frame.spots[begin:end]:
            self._fixed(frame, spot, taken)
        return max(begin, end)

    def _fixed(self, frame: Frame, spot: Spot, taken: Container[int] = ()) -> None:
        """Say what a spot gives to every prompt."""
        node = spot.node
        if isinstance(node, Text):
            self._dialogue.add(frame.text(spot), spot.speaker)
        elif isinstance(node, Param):
            self._dialogue.add(frame.argument(spot), spot.speaker)
        elif isinstance(node, Union) and node.default and spot.number not in taken:
            self._import(frame, Import(node.default), spot.speaker)

    def _import(
        self, frame: Frame, wanted: Import, speaker: Speaker | None, bond: Bond | None = None
    ) -> None:
        node = frame.targets[wanted.name].node
        path = f"{frame.path}.{node.name}"
        if isinstance(node, Collection):
            self._import_documents(node, wanted, path, speaker)
        else:
            self._import_module(node, wanted, path, speaker, bond)

    def _import_module(
        self,
        module: Module,
        wanted: Import,
        path: str,
        speaker: Speaker | None,
        bond: Bond | None,
    ) -> None:
        frame = Frame.of_module(module, path, speaker, arguments_of(module, wanted), bond)
        requests = [Request(child, speaker) for child in children_of(module, wanted)]
        self._lay_out(frame, requests)

    def _import_documents(
        self, collection: Collection, wanted: Import, path: str, speaker: Speaker | None
    ) -> None:
        for number, key in enumerate(keys_of(collection, wanted, self._documents)):
            if number and collection.separator:
                self._dialogue.add(Segment(collection.separator), speaker)
            name = f"{path}.{key}"
            if name in self._used:
                raise reference_error(f"the document {key!r} is imported twice", wanted.place)
            self._used.add(name)
            self._dialogue.add(Segment(self._documents[key], Kind.MODULE, name), speaker)
