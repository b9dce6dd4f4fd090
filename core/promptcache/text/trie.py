"""A set of texts in which the longest one that begins at a place is found in one walk.

A radix tree: texts that share a beginning share its path, so ten thousand documents with one
header cost one comparison of that header. The first `GRAM` characters are looked up in a dict,
which is all that most places of a prompt ever cost. A node has no string of its own: it names one
text that passes through it, and how far it goes.

Readers take no lock: a writer makes each change visible by one assignment, and what a reader has
in its hands stays valid. Writers are one at a time.
"""

from __future__ import annotations

from threading import Lock

GRAM = 16
"""Characters of the shortest text that can be kept."""


class _Node:
    __slots__ = ("children", "depth", "names", "text")

    def __init__(self, text: str, depth: int, names: tuple[str, ...] = ()) -> None:
        self.text = text
        """Some text through this node: `text[:depth]` is the path from the root."""
        self.depth = depth
        self.names = names
        self.children: dict[str, _Node] | None = None


class Trie:
    """Texts and the names they bear; several names may stand on one text, in a given order."""

    def __init__(self) -> None:
        self._roots: dict[str, _Node] = {}
        self._lock = Lock()

    def add(self, text: str, name: str, *, first: bool = False) -> None:
        """Let `text`, of at least GRAM characters, bear `name`, behind or before its others."""
        assert len(text) >= GRAM
        with self._lock:
            siblings, key, depth = self._roots, text[:GRAM], GRAM
            while (node := siblings.get(key)) is not None:
                if not text.startswith(node.text[depth : node.depth], depth):
                    node = _split(siblings, key, node, _shared(node.text, text, depth, node.depth))
                depth = node.depth
                if depth == len(text):
                    node.names = (name, *node.names) if first else (*node.names, name)
                    return
                if node.children is None:
                    node.children = {}
                siblings, key = node.children, text[depth]
            siblings[key] = _Node(text, len(text), (name,))

    def remove(self, text: str, name: str) -> None:
        """Take `name` from `text`; a text without names is no longer found."""
        with self._lock:
            path = list(self._path(text))
            if not path or path[-1][2].depth != len(text):
                return
            path[-1][2].names = tuple(n for n in path[-1][2].names if n != name)
            for siblings, key, node in reversed(path):
                children = node.children or {}
                if not node.names and not children:
                    del siblings[key]
                elif not node.names and len(children) == 1:
                    (siblings[key],) = children.values()
                elif children and node.text == text:  # let the forgotten text go
                    node.text = next(iter(children.values())).text

    def longest(self, text: str, start: int) -> tuple[int, str] | None:
        """The end and the first name of the longest kept text that begins at `text[start]`."""
        node = self._roots.get(text[start : start + GRAM])
        found = None
        depth = GRAM
        while node is not None and text.startswith(node.text[depth : node.depth], start + depth):
            depth = node.depth
            if names := node.names:
                found = (start + depth, names[0])
            if node.children is None or start + depth >= len(text):
                break
            node = node.children.get(text[start + depth])
        return found

    def nearest(self, text: str, start: int) -> tuple[int, str] | None:
        """How many characters the kept text that agrees longest with `text[start:]` shares with it,
        and its first name; None where no kept text has its first GRAM characters.
        """
        node = self._roots.get(text[start : start + GRAM])
        depth = GRAM
        while node is not None:
            edge, rest = node.text[depth : node.depth], text[start + depth : start + node.depth]
            depth += _shared(edge, rest, 0, len(edge))
            ended = depth < node.depth or node.children is None or start + depth >= len(text)
            further = None if ended else (node.children or {}).get(text[start + depth])
            if further is None:
                return depth, _some_name(node)
            node = further
        return None

    def begins(self, text: str) -> list[int]:
        """The places in `text` where some kept text may begin, in order."""
        roots = self._roots
        return [at for at in range(len(text) - GRAM + 1) if text[at : at + GRAM] in roots]

    def _path(self, text: str) -> list[tuple[dict[str, _Node], str, _Node]]:
        """The nodes whose texts are beginnings of `text`, each with where it hangs."""
        path = []
        siblings, key, depth = self._roots, text[:GRAM], GRAM
        while (node := siblings.get(key)) is not None:
            if not text.startswith(node.text[depth : node.depth], depth):
                break
            path.append((siblings, key, node))
            depth = node.depth
            if node.children is None or depth >= len(text):
                break
            siblings, key = node.children, text[depth]
        return path


def _some_name(node: _Node) -> str:
    """The name of some text through a node."""
    while not node.names:
        node = next(iter((node.children or {}).values()))
    return node.names[0]


def _split(siblings: dict[str, _Node], key: str, node: _Node, depth: int) -> _Node:
    """Put a node at `depth` between `node` and what it hangs from."""
    middle = _Node(node.text, depth)
    middle.children = {node.text[depth]: node}
    siblings[key] = middle
    return middle


def _shared(left: str, right: str, start: int, stop: int) -> int:
    """How far both agree, at most to `stop`, given that they agree up to `start`."""
    stop = min(stop, len(right))
    while start < stop:
        middle = (start + stop + 1) // 2
        if left[start:middle] == right[start:middle]:
            start = middle
        else:
            stop = middle - 1
    return start
