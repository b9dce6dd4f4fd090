"""Turns of a template -> the schema's nodes, and how far every prompt follows them word for word.

What prompts share ends at the first variable that is neither documents nor a parameter: the *cut*.
Before it fixed text is the schema's; after it the schema has only what a prompt may import, and
the text is each prompt's own. Knows no form of template and no values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from re import sub

from promptcache.errors import TemplateError, valid
from promptcache.pml import Collection, Module, Param, Role, Schema, Text
from promptcache.pml.checks import ROLES
from promptcache.pml.tree import Node
from promptcache.templates.beginning import whole_sentences
from promptcache.templates.naming import Names, digest, element
from promptcache.templates.parts import (
    Chosen,
    Example,
    Exchange,
    Filled,
    Fixed,
    Form,
    Part,
    Turn,
    Variable,
)

EXAMPLES = "examples"
"""What the collection of a selector's examples is called."""

Place = Callable[[Variable], Sequence[Node]]
"""What stands in a schema where its documents go."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Where what prompts share ends: `nodes` nodes into the schema's child number `child`."""

    child: int
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Outline:
    """A schema's children, the cut, and what variables they hold.

    documents: the variable behind each collection of documents; parameters: the variable behind
    each parameter, by the names of its module and of its own; examples: the collections of
    examples that selectors choose, in the template's order.
    """

    children: tuple[Node, ...]
    cut: Cut
    documents: Mapping[str, Variable]
    parameters: Mapping[tuple[str, str], Variable]
    examples: tuple[str, ...]


class Outliner:
    """Makes an outline, turn by turn. `lengths` are those of parameters, in tokens."""

    def __init__(
        self, document_variables: Iterable[str], lengths: Mapping[str, int], names: Names
    ) -> None:
        self.cut_at: tuple[Turn, Part] | None = None
        """What the cut was made at."""
        self.placed: dict[str, Turn] = {}
        """The document variables that have a place, each with its turn."""
        self._wanted = tuple(document_variables)
        self._lengths = lengths
        self._names = names
        self._children: list[Node] = []
        self._cut: Cut | None = None
        self._last_import: Cut | None = None  # right after the last import before the cut
        self._imports_later = False
        self._documents: dict[str, Variable] = {}
        self._parameters: dict[tuple[str, str], Variable] = {}
        self._examples: list[str] = []

    def add(self, turn: Turn, place: Place | None = None) -> None:
        """Append what of a turn is fixed or can be imported.

        `place` gives what stands for the documents in place of a collection. Raises TemplateError
        for a role that PML has not.
        """
        if turn.role is None:
            for part in turn.parts:
                self._add_messages(turn, part)
            return
        nodes: list[Node] = []
        for part in turn.parts:
            self._add_part(turn, part, nodes, place)
        if not nodes and self._cut is None:
            self._make_cut(turn, Fixed(""), nodes)  # a message without text is no role element
        here = self._cut is not None and self._cut.child == len(self._children)
        if here and turn.role != "user" and all(isinstance(node, Text) for node in nodes):
            nodes, self._cut = [], Cut(len(self._children))  # no prompt could go on with it
        if nodes:
            if turn.role not in ROLES:
                raise TemplateError(f"{turn.role!r} is no role of PML{valid(turn.role, ROLES)}")
            self._children.append(Role(turn.role, tuple(nodes)))

    def finished(self) -> Outline:
        """The outline of the turns so far."""
        cut = self._cut or Cut(len(self._children))
        children = self._children
        if self._imports_later and self._last_import is not None:
            # Fixed text between two imports is emitted right before the second one, which would
            # be after the text of the variable that the cut was made at.
            children, cut = _without_text(children, self._last_import), self._last_import
        elif self._imports_later and self._cut_at_value():
            children, cut = _with_whole_sentences(children, cut)
        return Outline(
            tuple(children), cut, self._documents, self._parameters, tuple(self._examples)
        )

    def _add_messages(self, turn: Turn, part: Part) -> None:
        if isinstance(part, Exchange) and all(text for _, text in part.messages):
            roles = tuple(Role(role, (Text(text),)) for role, text in part.messages)
            self._children.append(Module(self._names.new("example"), roles))
            self._imported(Cut(len(self._children)))
            return
        self._make_cut(turn, part, [])
        if isinstance(part, Chosen):
            self._children.append(self._selection(part))

    def _add_part(self, turn: Turn, part: Part, nodes: list[Node], place: Place | None) -> None:
        here = len(self._children)
        if isinstance(part, Variable) and self._is_new(part):
            if part.form is Form.UNKNOWN:
                self._make_cut(turn, part, nodes)
            self.placed[part.name] = turn
            if place is None:
                name = self._names.new(part.name)
                self._documents[name] = part
                nodes.append(Collection(name))
            else:
                nodes.extend(place(part))
            self._imported(Cut(here, len(nodes)))
        elif isinstance(part, Example):
            nodes.append(Module(self._names.new("example"), (Text(part.text),)))
            self._imported(Cut(here, len(nodes)))
        elif isinstance(part, Chosen):
            self._make_cut(turn, part, nodes)
            nodes.append(self._selection(part))
        elif self._cut is not None:
            return
        elif isinstance(part, Filled):
            nodes.append(self._module(part))
            self._imported(Cut(here, len(nodes)))
        elif not isinstance(part, Fixed):
            self._make_cut(turn, part, nodes)
        elif part.text and nodes and isinstance(before := nodes[-1], Text):
            nodes[-1] = Text(before.text + part.text)
        elif part.text:
            nodes.append(Text(part.text))

    def _cut_at_value(self) -> bool:
        """Whether the cut was made at something that belongs to no module."""
        part = self.cut_at[1] if self.cut_at else None
        placed = isinstance(part, Variable) and part.name in self._wanted
        return not placed and not isinstance(part, Chosen)

    def _is_new(self, variable: Variable) -> bool:
        return variable.name in self._wanted and variable.name not in self.placed

    def _make_cut(self, turn: Turn, part: Part, nodes: list[Node]) -> None:
        """End what prompts share here, if it has not ended yet.

        White space before a variable, and a word that it may go on with, is left to the prompt:
        tokenizers join them to what follows. So is the rest of an unfinished sentence, where
        documents come later: see `whole_sentences`.
        """
        if self._cut is not None:
            return
        if nodes and isinstance(before := nodes[-1], Text):
            text = sub(r"(?<!\w)\w{1,30}\Z", "", before.text).rstrip()
            nodes[-1:] = [Text(text)] if text else []
        self._cut, self.cut_at = Cut(len(self._children), len(nodes)), (turn, part)

    def _imported(self, after: Cut) -> None:
        if self._cut is None:
            self._last_import = after
        else:
            self._imports_later = True

    def _selection(self, part: Chosen) -> Collection:
        name = self._names.new(EXAMPLES)
        self._examples.append(name)
        self._imports_later = True
        return Collection(name, part.separator)

    def _module(self, part: Filled) -> Module:
        name, children = self._names.new("passage"), list[Node]()
        for piece in part.parts:
            if isinstance(piece, Fixed):
                children.append(Text(piece.text))
            else:
                param = Param(element(piece.name), self._lengths[piece.name])
                self._parameters[name, param.name] = piece
                children.append(param)
        return Module(name, tuple(children))


def named(outline: Outline, name: str | None) -> Schema:
    """The schema of an outline; without a name it is called after what it holds."""
    return Schema(name or f"prompt-{digest(outline.children)}", outline.children)


def with_parameters(turn: Turn, names: Iterable[str]) -> Turn:
    """The turn with each stretch of fixed text and short variables as a module of its own.

    A variable that comes twice begins another module: a module has each parameter once.
    """
    short, parts, run = set(names), list[Part](), list[Fixed | Variable]()

    def end_run() -> None:
        if any(isinstance(part, Variable) for part in run):
            parts.append(Filled(tuple(run)))
        else:
            parts.extend(run)
        run.clear()

    for part in turn.parts:
        if isinstance(part, Fixed):
            run.append(part)
        elif isinstance(part, Variable) and part.name in short and part.form is not Form.UNKNOWN:
            if any(isinstance(p, Variable) and p.name == part.name for p in run):
                end_run()
            run.append(part)
        else:
            end_run()
            parts.append(part)
    end_run()
    return Turn(turn.role, tuple(parts))


def _with_whole_sentences(children: Sequence[Node], cut: Cut) -> tuple[list[Node], Cut]:
    """The schema's children with no unfinished sentence before the cut, and the cut."""
    kept: list[Node] = list(children)
    role = kept[cut.child] if cut.child < len(kept) else None
    if not cut.nodes or not isinstance(role, Role):
        return kept, cut
    *before, last = role.children[: cut.nodes]
    if isinstance(last, Text):
        text = whole_sentences(last.text)
        before += [Text(text)] if text else []
        nodes = (*before, *role.children[cut.nodes :])
        kept[cut.child : cut.child + 1] = [Role(role.role, nodes)] if nodes else []
        cut = Cut(cut.child, len(before))
    return kept, cut


def _without_text(children: Sequence[Node], after: Cut) -> list[Node]:
    """The schema's children without the fixed text that stands after a place in it."""
    kept: list[Node] = list(children[: after.child])
    for number, child in enumerate(children[after.child :]):
        if isinstance(child, Role):
            begin = 0 if number else after.nodes
            later = [node for node in child.children[begin:] if not isinstance(node, Text)]
            nodes = (*child.children[:begin], *later)
            kept += [Role(child.role, nodes)] if nodes else []
        else:
            kept.append(child)
    return kept
