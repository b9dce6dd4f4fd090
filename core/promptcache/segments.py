"""What a prompt is made of: the one shape that markup, messages and recognised text become.

A prompt is a sequence of messages, a message a sequence of segments. Nothing here knows about
tokens, templates or models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a segment is, which decides how it is tokenised and whether it can be reused."""

    TEXT = "text"
    """Content that belongs to no module: the user's question, a separator, fixed text."""
    MODULE = "module"
    """Content that belongs to a prompt module, whose attention states are kept."""
    ARGUMENT = "argument"
    """The text that fills a module's parameter in this prompt; computed fresh."""
    CONTROL = "control"
    """Text of the chat template itself, the only text that may become control tokens."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the user's markup something stands, both counted from one."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


@dataclass(frozen=True, slots=True)
class Hole:
    """A parameter as the encoder sees it: `length` tokens kept free for an argument."""

    name: str
    length: int


@dataclass(frozen=True, slots=True)
class Bond:
    """A scaffold that a prompt uses: its dotted name, and those of its modules."""

    name: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of prompt text with one origin.

    All segments that carry the same `module` are, in order, that module's own text: they are
    encoded together in one run, with an argument's place held by `hole.length` placeholders.
    A module is used at most once in a prompt, so its name identifies it. An ARGUMENT without a
    module fills a parameter of one that is computed each time: its length is limited as well.
    """

    text: str
    kind: Kind = Kind.TEXT
    module: str | None = None
    hole: Hole | None = None
    preamble: bool = False
    """Stands before the first selectable module of its schema, in every prompt of the schema."""
    leads: bool = False
    """Stands in front of the first document in a message behind turns of a conversation: documents
    are encoded after it, and the preamble before it, although those turns stand between."""
    anonymous: bool = False
    """A MODULE that no one named: fixed text of the schema after its preamble, called after its
    place (`trip.#2`). It is worth encoding as a module when it is long, else it is computed."""
    bond: Bond | None = None
    """The scaffold whose encoding serves the module here: it and the others are one run, with what
    the chat template writes between them."""
    note: str | None = None
    """Why content that could have been reused is computed, for the trace."""
    place: Place | None = None

    def __post_init__(self) -> None:
        assert (self.kind is Kind.ARGUMENT) == (self.hole is not None)
        assert self.module is not None or self.kind is not Kind.MODULE


@dataclass(frozen=True, slots=True)
class Message:
    """A chat message; `role` None is text that no chat template wraps.

    `fields` is a JSON object of what the template is told beside role and content: the tools that
    the message calls, or the call that it answers. "" where there is nothing.
    """

    role: str | None
    segments: tuple[Segment, ...]
    fields: str = ""

    @property
    def text(self) -> str:
        """The message's whole content."""
        return "".join(segment.text for segment in self.segments)


def joined(segments: Iterable[Segment]) -> str:
    """The prompt text that these segments are cut from."""
    return "".join(segment.text for segment in segments)
