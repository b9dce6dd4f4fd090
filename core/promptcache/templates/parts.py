"""What every kind of template is made of, once its own form is gone. Knows no framework."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

Spoken = tuple[str, str]
"""A role, and what it says."""


class Form(Enum):
    """How a variable's value becomes text."""

    PLAIN = auto()
    """As `str` writes it: f-strings and jinja2."""
    RAW = auto()
    """As mustache writes `{{{name}}}`: what is false and not a number is nothing."""
    ESCAPED = auto()
    """As mustache writes `{{name}}`: the same, with HTML's special characters escaped."""
    UNKNOWN = auto()
    """By a template that is applied twice, so that braces in the value count."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Text that is the same in every prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A hole, filled with the text of a variable."""

    name: str
    form: Form = Form.PLAIN


@dataclass(frozen=True, slots=True)
class Filled:
    """Fixed text and the short variables in it, which together become a module with parameters."""

    parts: tuple[Fixed | Variable, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """One of the fixed examples of a few-shot prompt."""

    text: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """One of the fixed examples of a few-shot chat prompt: roles and texts of its messages."""

    messages: tuple[Spoken, ...]


@dataclass(frozen=True, slots=True)
class Chosen:
    """Examples that a selector chooses anew for every prompt, and what stands between two."""

    separator: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """Something whose text is known only when the prompt is made; `what` says what it is."""

    what: str


Part = Fixed | Variable | Filled | Example | Exchange | Chosen | Opaque


@dataclass(frozen=True, slots=True)
class Turn:
    """A message in the making. `role` None stands for any number of messages of any role."""

    role: str | None
    parts: tuple[Part, ...]
