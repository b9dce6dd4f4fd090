"""The rule for white space, applied to elements as they were read.

Outside `xml:space="preserve"`:

- text that is nothing but white space is dropped;
- at the front of a text, a run of it becomes one space, or nothing where a message begins;
- at the end of a text, a run becomes one space that belongs to the text that follows, since
  tokenizers join a space to the next word: it moves to the front of that text, into a module if
  one follows, and into every member of a union. It stays where it is before what has no text of
  its own to take it (a parameter, a collection, an import, verbatim text), and is dropped where
  a message or the whole ends;
- inside a text, and in `src` files and base64, it is kept.

So a module's text depends on the schema only, never on the prompt that imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from enum import Enum, auto

from promptcache.pml.xml import BLANK, Chars, Element


class Flow(Enum):
    """What an element is to the text around it."""

    MESSAGE = auto()
    """Text of its own: nothing crosses its edges."""
    PART = auto()
    """Part of the text it stands in."""
    CHOICE = auto()
    """Alternatives, each of which is part of the text."""
    INSERT = auto()
    """Stands in the text like a word: the space before it stays before it."""
    CLOSED = auto()
    """Like an insert, and what it holds stays as it was written."""


def settle(root: Element, flow_of: Callable[[Element], Flow]) -> Element:
    """A copy of the root, itself a text of its own, with the rule applied to all it contains."""
    return _settled(root, flow_of, begins=flow_of(root) is Flow.MESSAGE)


def _settled(element: Element, flow_of: Callable[[Element], Flow], *, begins: bool) -> Element:
    run = _Run(flow_of, begins=begins)
    for child in element.children:
        run.add(child)
    return replace(element, children=run.settled)


class _Run:
    """The children of one element, settled one after another."""

    def __init__(
        self, flow_of: Callable[[Element], Flow], *, begins: bool = False, owed: bool = False
    ) -> None:
        self.settled: list[Element | Chars] = []
        self.owed = owed
        """Whether a space waits for the text that follows."""
        self._flow_of = flow_of
        self._begins = begins
        self._owner: Chars | None = None  # the text that keeps the space if nothing takes it

    def add(self, child: Element | Chars) -> None:
        if isinstance(child, Element):
            self._add_element(child)
        elif child.preserve:
            self._keep_owed()
            self.settled.append(child)
        elif body := child.text.strip(BLANK):
            self._add_text(child, body)

    def _add_text(self, chars: Chars, body: str) -> None:
        begins = self._begins and not self.settled
        spaced = (self.owed or chars.text[0] in BLANK) and not begins
        self._owner = replace(chars, text=" " + body if spaced else body)
        self.settled.append(self._owner)
        self.owed = chars.text[-1] in BLANK

    def _add_element(self, element: Element) -> None:
        flow = self._flow_of(element)
        if flow is Flow.MESSAGE:
            self._drop_owed()
            self.settled.append(_settled(element, self._flow_of, begins=True))
        elif flow is Flow.INSERT:
            self._keep_owed()
            self.settled.append(_settled(element, self._flow_of, begins=False))
        elif flow is Flow.CLOSED:
            self._keep_owed()
            self.settled.append(element)
        else:
            if self.owed and not _takes_space(element, self._flow_of):
                self._keep_owed()
            branches = (
                [[child] for child in element.children if not _is_blank(child)]
                if flow is Flow.CHOICE
                else [element.children]
            )
            runs = [self._inner(children) for children in branches]
            self._drop_owed()
            settled = [child for run in runs for child in run.settled]
            self.settled.append(replace(element, children=settled))
            self.owed = any(run.owed for run in runs)

    def _inner(self, children: list[Element | Chars]) -> _Run:
        run = _Run(self._flow_of, owed=self.owed)
        for child in children:
            run.add(child)
        return run

    def _keep_owed(self) -> None:
        if self.owed and self._owner:
            self._owner.text += " "
        self._drop_owed()

    def _drop_owed(self) -> None:
        self.owed, self._owner = False, None


def _is_blank(child: Element | Chars) -> bool:
    """Whether it is white space that is dropped, as between the members of a union."""
    return not isinstance(child, Element) and not child.preserve and not child.text.strip(BLANK)


def _takes_space(element: Element, flow_of: Callable[[Element], Flow]) -> bool:
    """Whether the text that the element begins with may take a space at its front."""
    flow = flow_of(element)
    if flow is Flow.CHOICE:
        return all(_takes_space(branch, flow_of) for branch in element.elements)
    if flow is not Flow.PART:
        return False
    for child in element.children:
        if isinstance(child, Element):
            return _takes_space(child, flow_of)
        if child.preserve:
            return False
        if child.text.strip(BLANK):
            return True
    return False
