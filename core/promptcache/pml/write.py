"""Schema or Prompt -> markup that reads back as an equal value, to the byte.

What XML cannot carry is written in base64; white space is the care of `render.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from promptcache.pml.checks import is_writable
from promptcache.pml.elements import encoded
from promptcache.pml.prompt import Argument, Document, Import, Prompt, PromptNode, Turn
from promptcache.pml.render import Tag, render
from promptcache.pml.schema import Scaffold, Schema
from promptcache.pml.tree import Collection, Module, Node, Role, Text, Union

_SHORT_ARGUMENT = 60
"""Arguments up to so many characters are attributes."""


def write(value: Schema | Prompt) -> str:
    """The markup of a schema or a prompt, ending in a newline."""
    tag = _schema(value) if isinstance(value, Schema) else _prompt(value)
    return render(tag) + "\n"


def _schema(schema: Schema) -> Tag:
    tags = [*_nodes(schema.children), *map(_scaffold, schema.scaffolds)]
    return Tag("schema", {"name": schema.name}, tags)


def _scaffold(scaffold: Scaffold) -> Tag:
    return Tag("scaffold", {"name": scaffold.name, "modules": " ".join(scaffold.modules)})


def _nodes(nodes: Sequence[Node]) -> list[Tag | str]:
    return [_node(node) for node in nodes]


def _node(node: Node) -> Tag | str:
    if isinstance(node, Text):
        return _text(node.text)
    if isinstance(node, Module):
        return _module(node)
    if isinstance(node, Role):
        return Tag(node.role, {}, _nodes(node.children))
    if isinstance(node, Union):
        given = {"name": node.name} if node.name is not None else {}
        given |= {"default": node.default} if node.default is not None else {}
        return Tag("union", given, _nodes(node.members))
    if isinstance(node, Collection):
        return Tag("collection", {"name": node.name} | _encodable("separator", node.separator))
    attributes = {"name": node.name, "len": str(node.length)}
    default = {} if node.default is None else _encodable("default", node.default)
    return Tag("param", attributes | default)


def _module(module: Module) -> Tag:
    attributes = {"name": module.name} | ({} if module.cache else {"cache": "false"})
    children = _nodes(module.children)
    match children:
        case [Tag(name="text") as only]:  # its encoded text, which a module can hold itself
            return Tag("module", attributes | only.attributes, only.children, verbatim=True)
        case _:
            return Tag("module", attributes, children)


def _text(text: str) -> Tag | str:
    if is_writable(text):
        return text
    return Tag("text", {"encoding": "base64"}, [encoded(text)], verbatim=True)


def _encodable(attribute: str, text: str) -> dict[str, str]:
    if is_writable(text):
        return {attribute: text}
    return {attribute: encoded(text), "encoding": "base64"}


def _prompt(prompt: Prompt) -> Tag:
    return Tag("prompt", {"schema": prompt.schema}, _pieces(prompt.children))


def _pieces(pieces: Sequence[PromptNode]) -> list[Tag | str]:
    return [_piece(piece) for piece in pieces]


def _piece(piece: PromptNode) -> Tag | str:
    if isinstance(piece, Text):
        return _text(piece.text)
    if isinstance(piece, Document):
        return Tag("doc", _encodable("key", piece.key))
    if isinstance(piece, Turn):
        return Tag(piece.role, {}, _pieces(piece.children))
    return _import(piece)


def _import(wanted: Import) -> Tag:
    # Attributes are read before <arg> elements: from the first long argument on, all are elements.
    attributes: dict[str, str] = {}
    elements: list[Tag | str] = []
    for argument in wanted.arguments:
        if not elements and _is_short(argument.text):
            attributes[argument.name] = argument.text
        else:
            elements.append(_argument(argument))
    return Tag(wanted.name, attributes, elements + _pieces(wanted.children))


def _is_short(text: str) -> bool:
    return len(text) <= _SHORT_ARGUMENT and is_writable(text) and not set(text) & set("<>&\n\r\t")


def _argument(argument: Argument) -> Tag:
    attributes, text = {"name": argument.name}, argument.text
    if not is_writable(text):
        attributes["encoding"], text = "base64", encoded(text)
    return Tag("arg", attributes, [text] if text else [], verbatim=True)
