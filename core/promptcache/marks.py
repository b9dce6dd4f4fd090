"""Texts that a prompt marked as modules (`cache_control`), recognised from then on.

Marks move on with a conversation: what was marked in one turn comes unmarked in the next. Knows
no messages.
"""

from __future__ import annotations

from collections.abc import Container, Sequence

from promptcache.prompts import key_of
from promptcache.segments import Kind, Segment
from promptcache.text.recognize import Recognizer

REMEMBERED = 1024
"""Marked texts that are recognised without their mark, the last marked."""


class Marks:
    """The marked texts of one engine. `registered` says which keys stay without any mark."""

    def __init__(self, recognizer: Recognizer, registered: Container[str]) -> None:
        self._recognizer = recognizer
        self._registered = registered
        self._marked: dict[str, str] = {}
        """Texts by their keys, the last marked last."""

    def mark(self, text: str) -> Sequence[Segment]:
        """A marked text in segments: a module, and the white space at its edges."""
        content = text.strip()
        if not content:
            return (Segment(text),) if text else ()
        key = key_of(content)
        if key not in self._registered:
            self._remember(key, content)
        before, _, after = text.partition(content)
        around = (Segment(before), Segment(content, Kind.MODULE, key), Segment(after))
        return tuple(segment for segment in around if segment.text)

    def text(self, key: str) -> str:
        """The marked text of this key; none where none is marked."""
        return self._marked.get(key, "")

    def forget(self, key: str) -> bool:
        """Recognise a marked text no longer, unless it is registered; whether it was marked."""
        marked = self._marked.pop(key, None) is not None
        if marked and key not in self._registered:
            self._recognizer.remove(key)
        return marked

    def _remember(self, key: str, content: str) -> None:
        self._recognizer.add(key, content)
        self._marked.pop(key, None)
        self._marked[key] = content
        for old in list(self._marked)[:-REMEMBERED]:
            self._marked.pop(old, None)
            if old not in self._registered:
                self._recognizer.remove(old)
