"""Schemas and prompts at random, for the properties that all of them have."""

from dataclasses import replace
from itertools import pairwise, product

from hypothesis import strategies as st

from promptcache.errors import PMLReferenceError
from promptcache.pml import (
    Argument,
    Collection,
    Document,
    Import,
    Module,
    Param,
    Prompt,
    Role,
    Scaffold,
    Schema,
    Text,
    Turn,
    Union,
)
from promptcache.pml.tree import unrolled

_EDGES = [
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t ",
    "\x0c",
    "\x00",
    "\u00a0",
    "]]>",
    "<",
    "&amp;",
    '"',
    "é日",
]


def any_text() -> st.SearchStrategy[str]:
    """Text of all kinds, often with an edge that markup finds hard."""
    body = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
        ["word", "two words", "a\n  b", "```\ncode\n```"]
    )
    edge = st.sampled_from(_EDGES)
    return st.tuples(edge, body, edge).map("".join)


def names(prefix: str) -> st.SearchStrategy[str]:
    return st.from_regex(r"[a-z_][a-z0-9_-]{0,3}", fullmatch=True).map(lambda tail: prefix + tail)


texts = any_text().map(Text)
params = st.builds(Param, names("p"), st.integers(1, 99), st.none() | any_text())
collections = st.builds(Collection, names("c"), any_text())


def modules(depth: int) -> st.SearchStrategy[Module]:
    inner = texts | params
    if depth:
        inner |= modules(depth - 1) | unions(depth - 1)
    return st.builds(Module, names("m"), _children(inner), st.booleans())


def unions(depth: int) -> st.SearchStrategy[Union]:
    members = st.lists(
        modules(depth), min_size=1, max_size=3, unique_by=lambda member: member.name
    ).map(tuple)
    return members.flatmap(
        lambda some: st.builds(
            Union,
            st.just(some),
            st.none() | names("u"),
            st.none() | st.sampled_from([member.name for member in some]),
        )
    )


def _children(inner: st.SearchStrategy) -> st.SearchStrategy[tuple]:
    return st.lists(inner, max_size=4, unique_by=_identity).map(tuple).filter(_has_unique_names)


def _identity(node: object) -> object:
    return getattr(node, "name", None) or id(node)


def _has_unique_names(nodes: tuple) -> bool:
    seen = [
        name
        for node in nodes
        for each in (node.children if isinstance(node, Role) else (node,))
        for named in (each, *getattr(each, "members", ()))
        if (name := getattr(named, "name", None))
    ]
    return len(seen) == len(set(seen))


def schemas() -> st.SearchStrategy[Schema]:
    pieces = texts | modules(2) | unions(1) | collections
    roles = st.builds(Role, st.sampled_from(["system", "user", "assistant"]), _children(pieces))
    return st.builds(Schema, names("s"), _children(pieces | roles)).flatmap(_with_scaffolds)


def _with_scaffolds(schema: Schema) -> st.SearchStrategy[Schema]:
    """The schema with scaffolds over modules of its own, where some can stand side by side."""
    spots = [node for node in unrolled(schema.children) if not isinstance(node, Collection)]
    fitting: list[Scaffold] = []
    for before, after in pairwise(spots):
        for first, second in product(_choices(before), _choices(after)):
            for names_of_two in ((first, second), (second, first)):
                scaffold = Scaffold(f"f{len(fitting)}", names_of_two)
                if _is_accepted(schema, scaffold):
                    fitting.append(scaffold)
    if not fitting:
        return st.just(schema)
    some = st.lists(st.sampled_from(fitting), max_size=3, unique=True).map(tuple)
    return some.map(lambda scaffolds: replace(schema, scaffolds=scaffolds))


def _choices(node: object) -> list[str]:
    members = node.members if isinstance(node, Union) else (node,)
    return [member.name for member in members if isinstance(member, Module)]


def _is_accepted(schema: Schema, scaffold: Scaffold) -> bool:
    try:
        replace(schema, scaffolds=(scaffold,))
    except PMLReferenceError:
        return False
    return True


def prompts() -> st.SearchStrategy[Prompt]:
    arguments = st.lists(
        st.builds(Argument, names("p"), any_text()), max_size=3, unique_by=lambda a: a.name
    ).map(tuple)
    documents = st.builds(Document, any_text().filter(bool))
    leaf = st.builds(Import, names("m"), arguments, st.lists(documents, max_size=3).map(tuple))
    imports = st.builds(
        Import, names("m"), arguments, st.lists(texts | leaf, max_size=3).map(tuple)
    )
    pieces = texts | leaf | imports
    turns = st.builds(
        Turn, st.sampled_from(["user", "assistant"]), st.lists(pieces, max_size=3).map(tuple)
    )
    return st.builds(Prompt, names("s"), st.lists(pieces | turns, max_size=4).map(tuple))
