"""Every error a user can cause.

    PromptCacheError
    ├── PMLError                  markup: carries the source's name, line and column
    │   ├── PMLSyntaxError        not well-formed, or an element or attribute that PML has not
    │   └── PMLReferenceError     a schema, module, argument or document that does not exist or fit
    ├── PromptError               a prompt that cannot be run: empty, too long, an argument too long
    ├── TemplateError             a chat template or prompt template that cannot be used as asked
    ├── OptionError               an option's value that is not one of the valid ones
    ├── ModelError                a model that cannot be loaded
    │   └── UnsupportedModelError a model whose attention states cannot be moved; says what works
    ├── StoreError                a store that cannot do what was asked
    │   └── BudgetError           a byte budget that is zero, negative or too small
    ├── OutOfMemoryError          no memory for this request, after evicting and trying again
    ├── RemoteError               an engine behind a URL that cannot be reached, or has no place
    └── MissingExtraError         an optional dependency is absent; names the install command

Each message names the place, the offending value and the valid ones. Nothing that was cached is
lost by any of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches


class PromptCacheError(Exception):
    """The base of every error that a user of promptcache can cause."""


class PMLError(PromptCacheError):
    """Markup that cannot be used. `line` and `column` count from one; 0 means unknown.

    `message` is the sentence without the place.
    """

    def __init__(self, message: str, *, line: int = 0, column: int = 0, source: str = "") -> None:
        self.message, self.line, self.column, self.source = message, line, column, source
        place = f"line {line}, column {column}: " if line else ""
        super().__init__(f"{source + ': ' if source else ''}{place}{message}")


class PMLSyntaxError(PMLError):
    """Markup that is not well-formed, or an element or attribute that PML does not have there."""


class PMLReferenceError(PMLError):
    """A name that nothing bears, or a use of it that its schema does not allow."""


class PromptError(PromptCacheError):
    """A prompt that cannot be run."""


class TemplateError(PromptCacheError):
    """A chat template or a prompt template that cannot be used as asked."""


class OptionError(PromptCacheError):
    """An option with a value that is not valid."""


class ModelError(PromptCacheError):
    """A model that cannot be loaded."""


class UnsupportedModelError(ModelError):
    """A model that promptcache cannot serve as asked."""


class StoreError(PromptCacheError):
    """A store that cannot do what was asked."""


class BudgetError(StoreError):
    """A byte budget that cannot be kept."""


class OutOfMemoryError(PromptCacheError):
    """Memory ran out for this request, after everything evictable was evicted."""


class RemoteError(PromptCacheError):
    """An engine behind a URL that cannot be reached, is full, or does not let a request in.

    `status` is that of HTTP where there is one, and `code` the server's word for the reason.
    """

    def __init__(self, message: str, *, status: int | None = None, code: str | None = None) -> None:
        self.status, self.code = status, code
        super().__init__(message)


class MissingExtraError(PromptCacheError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an extra: pip install 'promptcache[{extra}]'")


def valid(value: str, names: Iterable[str], *, what: str = "valid") -> str:
    """The tail of a message about a wrong name: the closest one, and all there are."""
    known = sorted(names)
    close = get_close_matches(value, known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(known[:20]) + (", ..." if len(known) > 20 else "")
    return f"{hint} ({what}: {shown or 'none'})"


def code_of(kind: type[PromptCacheError]) -> str:
    """An error's class as OpenAI writes codes: `prompt_error`."""
    words = re.findall(r"[A-Z]+(?=[A-Z][a-z])|[A-Z][a-z]+", kind.__name__)
    return "_".join(words).lower()


def kinds_by_code() -> dict[str, type[PromptCacheError]]:
    """Every class of errors by its code."""
    found: dict[str, type[PromptCacheError]] = {}
    left: list[type[PromptCacheError]] = [PromptCacheError]
    while left:
        kind = left.pop()
        found[code_of(kind)] = kind
        left += kind.__subclasses__()
    return found


def kind_of(value: object) -> str:
    """What a value is, in a message: "an int", "a Document", "None", "the class Document"."""
    if value is None:
        return "None"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"
