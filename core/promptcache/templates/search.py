"""Where documents and examples stand in a rendered text. Knows no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from promptcache.pml import Collection, Document, Import, Module, Text
from promptcache.pml.tree import Node
from promptcache.prompts import key_of

Piece = Text | Import


@dataclass(frozen=True, slots=True)
class Region:
    """The documents of a collection in one prompt, and the text that they became together."""

    texts: tuple[str, ...]
    text: str


@dataclass(slots=True)
class Search:
    """Finds what can be imported in the texts of one prompt; each document is found once."""

    regions: Mapping[str, Region]
    documents: dict[str, str] = field(default_factory=dict, init=False)
    """The documents that were found, by their keys, without the white space at their edges."""
    _found: set[tuple[str, str]] = field(default_factory=set, init=False)

    def cut(self, text: str, nodes: Sequence[Node], *, always: bool = False) -> list[Piece]:
        """The text as imports of these nodes, in their order, and what stands between them.

        With `always`, text of a collection's begins and ends with an import of it, of no
        documents if need be: fixed text of the schema belongs before the first and after the
        last.
        """
        pieces: list[Piece] = []
        rest = text
        for node in nodes:
            if isinstance(node, Module):
                example = "".join(child.text for child in node.children if isinstance(child, Text))
                before, found, after = rest.partition(example)
                if found:
                    pieces += [Text(before), Import(node.name)]
                    rest = after
            elif isinstance(node, Collection):
                imported, rest = self._documents(rest, node)
                if always and not (imported and isinstance(imported[0], Import)):
                    imported.insert(0, Import(node.name))
                pieces += imported
        pieces += [Text(rest)] if rest else []
        last = nodes[-1] if nodes else None
        if always and isinstance(last, Collection) and isinstance(pieces[-1], Text):
            pieces.append(Import(last.name))
        return [piece for piece in pieces if not isinstance(piece, Text) or piece.text]

    def _documents(self, text: str, collection: Collection) -> tuple[list[Piece], str]:
        """Everything up to the collection's last document in the text, and what follows it."""
        region = self.regions[collection.name]
        pieces: list[Piece] = []
        run: list[Document] = []
        at = max(text.find(region.text), 0)
        begin = 0
        for document in region.texts:
            key = key_of(document)
            start = text.find(document, at)
            if start < 0 or (collection.name, key) in self._found:
                continue
            between = text[begin:start]
            if run and between != collection.separator:
                pieces.append(Import(collection.name, children=tuple(run)))
                run = []
            if not run:
                pieces.append(Text(between))
            run.append(Document(key))
            at = begin = start + len(document)
            self._found.add((collection.name, key))
            self.documents[key] = document
        if run:
            pieces.append(Import(collection.name, children=tuple(run)))
        return pieces, text[begin:]
