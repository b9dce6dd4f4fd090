"""What every kind of template is made of, once its own form is gone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Fixed:
    """Text that is the same in every prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A hole, filled with the plain text of a variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something whose text is known only when the prompt is made; `what` says what it is."""

    what: str


Part = Fixed | Variable | Opaque


@dataclass(frozen=True, slots=True)
class Turn:
    """A message in the making. `role` None stands for any number of messages of any role."""

    role: str | None
    parts: tuple[Part, ...]
