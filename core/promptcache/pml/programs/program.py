"""`@schema`: a Python function as a schema, whose calls are prompts."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Generic, Literal, ParamSpec

from promptcache.errors import PromptError
from promptcache.pml.programs.body import body_of
from promptcache.pml.programs.parts import Part, asked, checked, nodes_of
from promptcache.pml.programs.source import Source, source_of
from promptcache.pml.prompt import Import, Prompt, Turn
from promptcache.pml.schema import Schema
from promptcache.pml.tree import Text

P = ParamSpec("P")


def role(name: Literal["system", "user", "assistant"]) -> AbstractContextManager[None]:
    """A message of a prompt program: `with role("user"): ...`. Only `@schema` reads it."""
    raise PromptError(f"with role({name!r}) stands in a function with @schema")


@dataclass(frozen=True, slots=True, eq=False)
class Program(Generic[P]):
    """A function that `@schema` has read. Calling it gives a prompt for `schema`.

    cache.add_schema(program.schema)
    cache.generate(program(...))
    """

    schema: Schema
    source: Source = field(repr=False)
    parts: tuple[Part, ...] = field(repr=False)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Prompt:
        """The prompt of these arguments: modules whose conditions hold, parameters filled.

        Raises TypeError for arguments that the function does not have, as any call does, and
        PromptError for a value that cannot be used.
        """
        try:
            bound = self.source.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.source.name}(): {error}") from None
        pieces = asked(self.parts, checked(self.source, bound.arguments))
        children = tuple(piece for piece in pieces if isinstance(piece, Text | Import | Turn))
        return Prompt(self.schema.name, children)


def schema(function: Callable[P, object]) -> Program[P]:
    """Read a function as a schema, called after it; the function's body never runs.

    A string is text, `if` a module, `match` or `if`/`elif`/`else` a union, a call of another such
    function a nested module, `with role(...)` a message. An argument that is annotated
    `Annotated[str, Length(8)]` is a parameter, and stands in an f-string.

    Raises PMLSyntaxError, with file, line and column, for anything else.
    """
    source = source_of(function)
    parts = body_of(source, role, _source)
    with source.placed(source.tree):
        return Program(Schema(source.name, nodes_of(parts)), source, tuple(parts))


def _source(value: object) -> Source | None:
    return value.source if isinstance(value, Program) else None
