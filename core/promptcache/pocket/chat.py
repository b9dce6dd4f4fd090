"""A sample and a wording become chat messages, in pieces.

A document's text is a piece of its own, as it is when promptcache encodes it as a module; so is
each stretch of text around documents. This file knows nothing about tokens.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from promptcache.pocket.corpus import Sample
from promptcache.pocket.prompts import Wording

Role = Literal["system", "user", "assistant"]
_HOLE = re.compile(r"(\{context\}|\{question\})")


@dataclass(frozen=True, slots=True)
class Message:
    """One message; its content is `"".join(pieces)`. Documents stand at odd places."""

    role: Role
    pieces: tuple[str, ...]
    lead: str = ""  # what stands before the value, where an answer is a sentence

    @property
    def content(self) -> str:
        """The text of the message."""
        return "".join(self.pieces)


def _context(sample: Sample, wording: Wording) -> list[str]:
    pieces: list[str] = []
    for n, document in enumerate(sample.documents, 1):
        header = wording.header.replace("{n}", str(n)).replace("{title}", document.title)
        pieces += [(wording.joiner if n > 1 else "") + header, document.text]
    return pieces


def _fill(template: str, sample: Sample, wording: Wording, question: str) -> tuple[str, ...]:
    pieces = [""]
    for part in _HOLE.split(template):
        if part == "{context}":
            first, *rest = _context(sample, wording)
            pieces[-1] += first
            pieces += [*rest, ""]
        else:
            pieces[-1] += question if part == "{question}" else part
    return tuple(pieces)


def messages(sample: Sample, wording: Wording) -> list[Message]:
    """Return the conversation: system (if any), then user and assistant in turn."""
    result = []
    if wording.system:
        result.append(Message("system", _fill(wording.system, sample, wording, "")))
    for place, turn in enumerate(sample.turns):
        again = place > 0 and "{context}" in wording.user
        template = "{question}" if again else wording.user
        result.append(Message("user", _fill(template, sample, wording, turn.question)))
        result.append(Message("assistant", (turn.answer,), turn.lead))
    return result
