"""Registered documents, found again in the text of a prompt.

This is what makes unchanged chains fast: whatever a framework does to a document's identity, its
text arrives verbatim. A document is found when its whole text is there, character by character;
at each place the longest one wins, and matches do not overlap.

Decided here:

- A document is looked for as it was registered and, for frameworks that strip, without the white
  space at its edges. A text found in both forms goes to the longer.
- Texts under `trie.GRAM` characters are not looked for: "yes" would be found inside words, and
  there is nothing to gain. A longer text is found wherever it stands, inside a word too: it is
  the same text.
- The same text registered under two names is one document, the first.

This file does not know tokens or roles.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from threading import Lock

from promptcache.errors import OptionError, PromptError, valid
from promptcache.segments import Kind, Segment
from promptcache.text.explain import agreement, unescaped, why_not_found
from promptcache.text.trie import GRAM, Trie

PART = 48
"""Characters of a document that are not in a text by chance."""
ALIKE = 64
"""Documents with one ending that are compared."""
AGAIN = "the same document stands earlier in this prompt; a module is reused once per prompt"


@dataclass(frozen=True, slots=True)
class Match:
    """`text[start:stop]` is the document `name`."""

    start: int
    stop: int
    name: str


class Recognizer:
    """Documents by name, and where they are in a text. Threads may search while others add."""

    def __init__(self) -> None:
        self._trie = Trie()
        self._texts: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._endings: dict[str, tuple[str, ...]] = {}
        """Documents by their last GRAM characters."""
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._texts)

    def __contains__(self, name: str) -> bool:
        return name in self._texts

    def add(self, name: str, text: str) -> str | None:
        """Register a document; the name it is found by: an earlier one if its text is known.

        None for a text that is too short to be looked for. Raises PromptError for one that is
        empty or white space only, and OptionError for a name that stands for another text.
        """
        if not text.strip():
            raise PromptError(f"the document {name!r} has no text")
        with self._lock:
            if self._texts.get(name, text) != text:
                raise OptionError(f"the name {name!r} stands for another text: remove that first")
            if len(text.strip()) < GRAM:
                return None
            if (known := self._names.setdefault(text, name)) != name or name in self._texts:
                return known
            self._texts[name] = text
            ending = text.rstrip()[-GRAM:]
            self._endings[ending] = (*self._endings.get(ending, ()), name)
            self._trie.add(text, name, first=True)
            if (stripped := text.strip()) != text:
                self._trie.add(stripped, name)
            return name

    def remove(self, name: str) -> bool:
        """Forget a document; whether it was registered by this name."""
        with self._lock:
            text = self._texts.pop(name, None)
            if text is None:
                return False
            del self._names[text]
            ending = text.rstrip()[-GRAM:]
            if others := tuple(n for n in self._endings[ending] if n != name):
                self._endings[ending] = others
            else:
                del self._endings[ending]
            for form in {text, text.strip()}:
                self._trie.remove(form, name)
            return True

    def find(self, text: str) -> list[Match]:
        """Every registered document in `text`, from left to right."""
        matches: list[Match] = []
        free = 0
        for start in self._trie.begins(text):
            if start >= free and (found := self._trie.longest(text, start)):
                free, name = found
                matches.append(Match(start, free, name))
        return matches

    def recognise(self, text: str) -> tuple[Segment, ...]:
        """`text` as segments: a MODULE for each document, TEXT between them.

        A document that stands in `text` twice is a module the first time.
        """
        segments: list[Segment] = []
        seen: set[str] = set()
        position = 0
        for match in self.find(text):
            found = text[match.start : match.stop]
            segments.append(Segment(text[position : match.start]))
            if match.name in seen:
                segments.append(Segment(found, note=AGAIN))
            else:
                segments.append(Segment(found, Kind.MODULE, module=match.name))
            seen.add(match.name)
            position = match.stop
        segments.append(Segment(text[position:]))
        return tuple(segment for segment in segments if segment.text)

    def explain(self, text: str, name: str) -> str | None:
        """Why the document `name`, expected in `text`, is not found there.

        None if it is found or no reason is known. Raises OptionError for an unknown name.
        """
        document = self._texts.get(name)
        if document is None:
            raise OptionError(f"there is no document {name!r}{valid(name, self._texts)}")
        matches = self.find(text)
        if any(match.name == name for match in matches):
            return None
        at = text.find(document.strip())
        if at < 0:
            return why_not_found(text, document)
        over = [m.name for m in matches if m.start < at + len(document.strip()) and m.stop > at]
        return f"its text is part of another document's here: {', '.join(over)}" if over else None

    def in_part(self, text: str) -> list[str]:
        """Documents whose beginning or end stands in `text`, for at least PART characters; at each
        place the one of which most is there. Those that are there as a whole are among them.
        """
        found: dict[str, None] = {}
        for start in self._trie.begins(text):
            nearest = self._trie.nearest(text, start)
            if nearest is not None and nearest[0] >= PART:
                found[nearest[1]] = None
        for stop in range(PART, len(text) + 1):
            names = self._endings.get(text[stop - GRAM : stop], ())[:ALIKE]
            ends = [(self._agreement(text[:stop], name), name) for name in names]
            if ends and max(ends)[0] >= PART:
                found[max(ends)[1]] = None
        return list(found)

    def _agreement(self, text: str, name: str) -> int:
        """How many characters at its end a text shares with a document."""
        document = self._texts.get(name, "").rstrip()  # another thread may forget it
        return agreement(text[-len(document) :][::-1], document[::-1])

    def spoiled(self, text: str, known: Container[str]) -> list[tuple[str, str]]:
        """Documents that are in `text` escaped, so that they are not found there, and how.

        Documents whose names are `known` are left out.
        """
        found: dict[str, str] = {}
        for undone in unescaped(text):
            for match in self.find(undone):
                if match.name in known or match.name in found:
                    continue
                document = self._texts.get(match.name)  # another thread may forget it
                if document is None or document.strip() in text:
                    continue
                if reason := why_not_found(text, document):
                    found[match.name] = reason
        return list(found.items())
