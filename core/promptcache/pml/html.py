"""Schemas and prompts in a notebook: a tree of what they hold, with sizes.

Sizes are characters: PML knows no tokens. Knows the values, not the markup they came from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from promptcache.html import Html, element, joined
from promptcache.pml.tree import Collection, Module, Node, Param, Role, Text, Union, walk

if TYPE_CHECKING:
    from promptcache.pml.prompt import Prompt, PromptNode
    from promptcache.pml.schema import Schema

EXCERPT = 100
"""Characters of a text that are shown unfolded."""


def schema_html(schema: Schema) -> Html:
    """The inside of a schema's HTML form."""
    title = _line("schema", schema.name, _size(schema.children))
    scaffolds = (
        element("li", _line("scaffold", scaffold.name, ", ".join(scaffold.modules)))
        for scaffold in schema.scaffolds
    )
    inside = (*map(_node, schema.children), *scaffolds)
    return joined((element("p", title), element("ul", *inside, class_="pc-tree")))


def prompt_html(prompt: Prompt) -> Html:
    """The inside of a prompt's HTML form."""
    title = _line("prompt for the schema", prompt.schema, "")
    inside = map(_piece, prompt.children)
    return joined((element("p", title), element("ul", *inside, class_="pc-tree")))


def _node(node: Node) -> Html:
    match node:
        case Text():
            return _text("text", node.text)
        case Param():
            default = "" if node.default is None else f", else {node.default!r}"
            return element("li", _line("param", node.name, f"up to {node.length} tokens{default}"))
        case Collection():
            said = f"documents, with {node.separator!r} between two of them"
            return element("li", _line("collection", node.name, said))
        case Module():
            cache = "" if node.cache else ", computed each time"
            line = _line("module", node.name, _size(node.children) + cache)
            return _branch(line, map(_node, node.children))
        case Union():
            default = f"by default {node.default}" if node.default else "or none"
            said = f"one of {len(node.members)}, {default}"
            return _branch(_line("union", node.name or "", said), map(_node, node.members))
        case Role():
            line = _line(node.role, "", _size(node.children))
            return _branch(line, map(_node, node.children))


def _piece(piece: PromptNode) -> Html:
    from promptcache.pml.prompt import Document, Import

    if isinstance(piece, Text):
        return _text("text", piece.text)
    if isinstance(piece, Document):
        return element("li", _line("doc", piece.key, ""))
    if isinstance(piece, Import):
        arguments = (_text(f"argument {given.name}", given.text) for given in piece.arguments)
        inside = [*arguments, *map(_piece, piece.children)]
        return _branch(_line("import", piece.name, ""), inside)
    return _branch(_line(piece.role, "", ""), map(_piece, piece.children))


def _branch(line: Html, inside: Iterable[Html]) -> Html:
    held = list(inside)
    if not held:
        return element("li", line)
    tree = element("ul", *held)
    return element("li", element("details", element("summary", line), tree, open=True))


def _text(what: str, text: str) -> Html:
    shown = element("span", text[:EXCERPT], class_="pc-excerpt")
    if len(text) > EXCERPT:
        title = element("summary", f"… {len(text) - EXCERPT:,} characters")
        rest = element("span", text[EXCERPT:], class_="pc-excerpt")
        shown = joined((shown, element("details", title, rest)))
    return element("li", _line(what, "", _characters(len(text))), " ", shown)


def _line(what: str, name: str, said: str) -> Html:
    parts: list[str] = [element("span", what, class_="pc-quiet")]
    if name:
        parts += [" ", element("b", name)]
    if said:
        parts += [" ", element("span", f"({said})", class_="pc-quiet")]
    return joined(parts)


def _size(nodes: Iterable[Node]) -> str:
    return _characters(sum(len(node.text) for node in walk(nodes) if isinstance(node, Text)))


def _characters(count: int) -> str:
    return "1 character" if count == 1 else f"{count:,} characters"
