"""Which documents a prompt was to reuse and does not, and why: lines for the trace.

Looked for after the first token. Knows segments, not tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from promptcache.errors import OptionError
from promptcache.prompts import key_of
from promptcache.segments import Kind, Segment, joined
from promptcache.text.recognize import Recognizer

NOTED = 8
"""Documents that a note is written about, where many are in a prompt in another form."""


class Misses:
    """What is missed among the registered documents `texts`, by key, of one engine."""

    def __init__(self, recognizer: Recognizer, texts: Mapping[str, str]) -> None:
        self._recognizer = recognizer
        self._texts = texts

    def lines(
        self,
        expected: Iterable[str],
        segments: Sequence[Segment],
        passages: Iterable[str] = (),
    ) -> list[str]:
        """A line for each expected document that is no module of these segments, and why; for
        each registered one that stands there in another form; and for those of which one of the
        `passages` is a part.
        """
        used = {key_of(segment.text) for segment in segments if segment.kind is Kind.MODULE}
        text = joined(segments)
        lines = [
            f"the document {document[:40]!r} was expected: {self._why(document, text)}"
            for document in expected
            if key_of(document) not in used
        ]
        known = used.union(map(key_of, expected))
        parts = (key for passage in passages for key in self._recognizer.in_part(passage))
        cut = list(dict.fromkeys(key for key in parts if key not in known))
        lines += [
            f"the document {document[:40]!r} is not whole here: {self._why(document, text)}"
            for key in cut[:NOTED]
            if (document := self._texts.get(key))
        ]
        spoiled = self._recognizer.spoiled(text, known.union(cut))
        lines += [
            f"the document {self._texts.get(key, key)[:40]!r} is not recognised here: {why}"
            for key, why in spoiled[:NOTED]
        ]
        if len(spoiled) > NOTED:
            lines.append(f"and {len(spoiled) - NOTED} documents more in such a form")
        return lines

    def _why(self, document: str, text: str) -> str:
        key = key_of(document)
        if key not in self._texts:
            return "it is not registered"
        try:
            return self._recognizer.explain(text, key) or "its text is not in the prompt"
        except OptionError:
            return "it is too short to be recognised"
