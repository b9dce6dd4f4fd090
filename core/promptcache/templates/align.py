"""Messages that a template rendered -> the PML prompt that says the same.

The messages are the truth: what they share with the template's schema is left to the schema, what
can be imported is imported, and the rest is the prompt's own text, just as it was rendered. So a
prompt made here cannot say anything else than the messages; `resolve` is asked once more at the
end. Knows no framework.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from promptcache.errors import TemplateError
from promptcache.pml import (
    Argument,
    Collection,
    Import,
    Module,
    Param,
    Prompt,
    Role,
    Schema,
    Text,
    Turn,
    resolve,
)
from promptcache.pml.tree import Node
from promptcache.templates.outline import Outline
from promptcache.templates.parts import Spoken
from promptcache.templates.search import Region, Search

Piece = Text | Import


@dataclass(frozen=True, slots=True)
class Filling:
    """What fills a schema in one prompt.

    regions: the documents of each collection, and the text that they became together; arguments:
    the text of each parameter, by the names of its module and of its own.
    """

    regions: Mapping[str, Region]
    arguments: Mapping[tuple[str, str], str]


def align(
    schema: Schema, outline: Outline, messages: Sequence[Spoken], filling: Filling
) -> tuple[Prompt, dict[str, str]]:
    """The prompt, and the documents that it imports by their keys.

    Raises TemplateError where the messages are not what the template has in every prompt.
    """
    search = Search(filling.regions)
    aligner = _Aligner(outline, messages, filling, search)
    prompt = Prompt(schema.name, tuple(aligner.children()))
    resolved = [(m.role or "user", m.text) for m in resolve(schema, prompt, search.documents)]
    if resolved != list(messages):
        raise TemplateError("this prompt cannot be said in PML word for word")
    return prompt, search.documents


@dataclass(slots=True)
class _Aligner:
    outline: Outline
    messages: Sequence[Spoken]
    filling: Filling
    search: Search
    _next: int = field(default=0, init=False)
    """The number of the message that comes next."""

    def children(self) -> Iterator[Text | Import | Turn]:
        """What the prompt holds, in order."""
        cut, children = self.outline.cut, self.outline.children
        for child in children[: cut.child]:
            yield from self._shared(child)
        later = list(children[cut.child :])
        if cut.nodes:
            role = later.pop(0)
            assert isinstance(role, Role)
            yield from self._begun(role, cut.nodes)
        while self._next < len(self.messages):
            yield self._own(later)

    def _shared(self, child: Node) -> Iterator[Import | Turn]:
        """What a prompt has to say to get a child of the schema that is part of every prompt."""
        if isinstance(child, Module):
            for role in child.children:
                assert isinstance(role, Role)
                list(self._shared(role))
            yield Import(child.name)
            return
        assert isinstance(child, Role)
        text = self._take(child.role)
        pieces, end = self._followed(child.children, text)
        if end < len(text):
            raise self._unexpected(text, end, "")
        if pieces:
            yield Turn(child.role, tuple(pieces))

    def _begun(self, role: Role, shared: int) -> Iterator[Text | Turn]:
        """The message in which the prompts begin to differ."""
        text = self._take(role.role)
        pieces, end = self._followed(role.children[:shared], text)
        own = self.search.cut(text[end:], role.children[shared:], always=True)
        if any(isinstance(piece, Import) for piece in (*pieces, *own)):
            yield Turn(role.role, (*pieces, *own))
        elif end < len(text):
            yield Text(text[end:])  # goes on with the schema's last message, the user's

    def _own(self, later: list[Node]) -> Import | Turn:
        """A message of the prompt's own, or several that are one of the schema's examples."""
        for number, child in enumerate(later):
            if isinstance(child, Module):
                said = [(r.role, _text(r)) for r in child.children if isinstance(r, Role)]
                if list(self.messages[self._next :][: len(said)]) == said:
                    self._next += len(said)
                    del later[number]
                    return Import(child.name)
        role, text = self.messages[self._next]
        self._next += 1
        for number, child in enumerate(later):
            if isinstance(child, Role) and child.role == role:
                pieces = self.search.cut(text, child.children)
                if any(isinstance(piece, Import) for piece in pieces):
                    del later[number]
                    return Turn(role, tuple(pieces))
        anywhere = [child for child in later if isinstance(child, Collection)]
        return Turn(role, tuple(self.search.cut(text, anywhere)))

    def _followed(self, nodes: Sequence[Node], text: str) -> tuple[list[Piece], int]:
        """What imports the nodes, which the text follows word for word, and where they end."""
        pieces: list[Piece] = []
        end = 0
        for node in nodes:
            expected = self._expected(node)
            if not text.startswith(expected, end):
                raise self._unexpected(text, end, expected)
            end += len(expected)
            if isinstance(node, Module):
                pieces.append(Import(node.name, tuple(self._arguments(node))))
            elif isinstance(node, Collection):
                pieces += self.search.cut(expected, [node], always=True)
        return pieces, end

    def _expected(self, node: Node) -> str:
        if isinstance(node, Collection):
            return self.filling.regions[node.name].text
        if not isinstance(node, Module):
            return _text(node)
        arguments = {argument.name: argument.text for argument in self._arguments(node)}
        return "".join(
            arguments[child.name] if isinstance(child, Param) else _text(child)
            for child in node.children
        )

    def _arguments(self, module: Module) -> Iterator[Argument]:
        for child in module.children:
            if isinstance(child, Param):
                yield Argument(child.name, self.filling.arguments[module.name, child.name])

    def _take(self, role: str) -> str:
        """The text of the next message, which is of this role."""
        if self._next == len(self.messages):
            raise TemplateError(f"the prompt has no message {self._next + 1}, of the role {role!r}")
        self._next += 1
        said, text = self.messages[self._next - 1]
        if said != role:
            raise TemplateError(f"message {self._next} is of the role {said!r}, not {role!r}")
        return text

    def _unexpected(self, text: str, at: int, expected: str) -> TemplateError:
        wanted = f"{expected[:40]!r}" if expected else "the end of the message"
        return TemplateError(
            f"message {self._next} has {text[at : at + 40]!r} at character {at + 1}, where the "
            f"template has {wanted}: a value that the template was translated with has changed"
        )


def _text(node: Node) -> str:
    """The text of a node that holds nothing but text."""
    if isinstance(node, Text):
        return node.text
    assert isinstance(node, Role)
    return "".join(child.text for child in node.children if isinstance(child, Text))
