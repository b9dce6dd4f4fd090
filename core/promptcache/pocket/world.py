"""The shape of the world that the corpus tells of: kinds of entity and their attributes.

The kinds themselves are tables in `places.py` and `people.py`. In a sentence, `{E}` is the
entity at the start (`The Halvern Museum`, or a pronoun), `{e}` its name further in (`the Halvern
Museum`) and `{v}` the value. This file knows nothing about documents or prompts.
"""

from __future__ import annotations

from dataclasses import dataclass

from promptcache.pocket.values import ValueKind


@dataclass(frozen=True, slots=True)
class Attribute:
    """One thing that can be said and asked of an entity.

    `more` words a question that compares two entities by this attribute ("Which opened earlier,
    {a} or {b}?"), `less` tells whether the smaller value wins. `role` names the person that is
    the value ("the founder of {e}"), so that a question can lead on from one document to another.
    """

    value: ValueKind
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    compare: tuple[tuple[str, bool], ...] = ()
    role: str = ""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of entity: how it is named, introduced and referred to, and what is told of it."""

    name: str
    forms: tuple[str, ...]
    pronouns: tuple[str, ...]
    intros: tuple[str, ...]
    asides: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    personal: bool = False


def fact(
    value: ValueKind,
    statements: str,
    questions: str,
    *,
    earlier: str = "",
    later: str = "",
    role: str = "",
) -> Attribute:
    """Build an attribute from wordings separated by ` | `."""
    compare = [(text, True) for text in earlier.split(" | ") if text]
    compare += [(text, False) for text in later.split(" | ") if text]
    return Attribute(
        value, tuple(statements.split(" | ")), tuple(questions.split(" | ")), tuple(compare), role
    )
