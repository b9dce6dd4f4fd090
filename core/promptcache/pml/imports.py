"""What the prompts of a schema can import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from promptcache.pml.prompt import Document, Import
from promptcache.pml.schema import Schema
from promptcache.pml.tree import Collection, Module, Node, Text, Union, unrolled, walk

STAND_IN = "stand-in"
"""The key of a document that stands for any other, where only what is before it matters."""


def imports_of(schema: Schema) -> Iterator[Import]:
    """One import for every module of a schema, its ancestors around it."""
    yield from _imports(schema.children)


def _imports(nodes: Sequence[Node]) -> Iterator[Import]:
    for node in unrolled(nodes):
        for module in node.members if isinstance(node, Union) else (node,):
            if isinstance(module, Module):
                yield Import(module.name)
                for inner in _imports(module.children):
                    yield Import(module.name, children=(inner,))


def imports_of_scaffolds(schema: Schema) -> Iterator[tuple[Import | Text, ...]]:
    """For each scaffold of a schema what a prompt that uses it imports.

    The defaults of unions come after it: left out, they would stand in their own places, which may
    lie between two of its modules.
    """
    unions = [node for node in unrolled(schema.children) if isinstance(node, Union)]
    for scaffold in schema.scaffolds:
        defaults = [
            Import(union.default)
            for union in unions
            if union.default and not any(m.name in scaffold.modules for m in union.members)
        ]
        yield (*map(Import, scaffold.modules), Text("."), *defaults)


def first_import(schema: Schema) -> Import | None:
    """An import of what a schema lets its prompts choose first; None if there is no choice."""
    for node in unrolled(schema.children):
        if isinstance(node, Collection):
            return Import(node.name, children=(Document(STAND_IN),))
        if isinstance(node, Module | Union):
            return Import(node.name if isinstance(node, Module) else node.members[0].name)
    return None


def collection_of(schema: Schema) -> Collection | None:
    """The schema's first collection."""
    return next((node for node in walk(schema.children) if isinstance(node, Collection)), None)
