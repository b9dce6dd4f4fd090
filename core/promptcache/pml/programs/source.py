"""A prompt program as it was written: its tree, its parameters, and the places of its errors.

Reads source and annotations; runs nothing of the function.
"""

from __future__ import annotations

import ast
import builtins
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType
from typing import Annotated, Any, get_args, get_origin

from promptcache.errors import PMLError, PMLSyntaxError, kind_of
from promptcache.pml.checks import syntax_error


@dataclass(frozen=True, slots=True)
class Length:
    """Marks an argument of a prompt program as a parameter of at most so many tokens:
    `days: Annotated[str, Length(5)]`.
    """

    tokens: int


@dataclass(frozen=True, slots=True)
class Given:
    """An argument of a program: a parameter if it has a `length` in tokens, else `is_text` says
    whether it may be the prompt's own text.
    """

    name: str
    length: int | None
    is_text: bool
    default: object


@dataclass(frozen=True, slots=True)
class Source:
    """A function's source."""

    file: str
    lines: tuple[str, ...]
    tree: ast.FunctionDef
    function: FunctionType
    signature: inspect.Signature
    given: Mapping[str, Given]

    @property
    def name(self) -> str:
        """What the function is called."""
        return self.tree.name

    def error(self, node: ast.expr | ast.stmt | ast.arg | ast.pattern, message: str) -> PMLError:
        """An error at the place of a node."""
        return _error(self.file, self.lines, node, message)

    @contextmanager
    def placed(self, node: ast.expr | ast.stmt | ast.arg) -> Iterator[None]:
        """Give an error that a PML node raises the place of what it was made of."""
        try:
            yield
        except PMLError as error:
            if error.source:
                raise
            raise self.error(node, error.message) from None

    def known(self, name: str) -> object:
        """What a name means around the function. KeyError where it means nothing yet."""
        code, cells = self.function.__code__, self.function.__closure__ or ()
        if name in code.co_freevars:
            try:
                return cells[code.co_freevars.index(name)].cell_contents
            except ValueError:
                raise KeyError(name) from None
        outer = self.function.__globals__
        return outer[name] if name in outer else vars(builtins)[name]


def source_of(function: Callable[..., object]) -> Source:
    """The source of a function. PMLSyntaxError for what is none, or is not to be read."""
    if not isinstance(function, FunctionType):
        raise syntax_error(f"@schema stands before a function, not {kind_of(function)}")
    name = function.__qualname__
    try:
        lines, _ = inspect.findsource(function)
        tree = _parsed("".join(lines))
    except (OSError, SyntaxError) as error:
        raise syntax_error(
            f"the source of {name} cannot be read ({error}): write it in a file or a notebook"
        ) from None
    file = inspect.getsourcefile(function) or function.__code__.co_filename
    node = _definition(tree, function.__code__.co_firstlineno)
    if node is None:
        raise PMLSyntaxError(
            f"{name} is no plain function: @schema reads one that is written with def",
            line=function.__code__.co_firstlineno,
            column=1,
            source=file,
        )
    try:
        signature = inspect.signature(function, eval_str=True)
    except Exception as error:  # annotations are expressions of the user's: they raise anything
        raise _error(file, lines, node, f"the annotations of {name} cannot be read: {error}") from (
            error
        )
    places = {arg.arg: arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
    given = {}
    for each in signature.parameters.values():
        try:
            given[each.name] = _given(each)
        except PMLError as error:
            raise _error(file, lines, places[each.name], error.message) from None
    return Source(file, tuple(lines), node, function, signature, given)


@lru_cache(8)
def _parsed(text: str) -> ast.Module:
    return ast.parse(text)


def _definition(tree: ast.Module, line: int) -> ast.FunctionDef | None:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
            if first == line:
                return node
    return None


def _given(parameter: inspect.Parameter) -> Given:
    name, default = parameter.name, parameter.default
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        raise syntax_error(f"a prompt program has no *{name}: give each argument a name")
    annotation: Any = parameter.annotation
    lengths: list[Length] = []
    if get_origin(annotation) is Annotated:
        annotation, *marks = get_args(annotation)
        lengths = [mark for mark in marks if isinstance(mark, Length)]
    if not lengths:
        return Given(name, None, annotation is str, default)
    if len(lengths) > 1:
        raise syntax_error(f"the argument {name!r} has {len(lengths)} lengths: give it one")
    if annotation not in (str, str | None):
        raise syntax_error(
            f"the argument {name!r} has a length and is annotated {annotation!r}: "
            "one with a length is text, Annotated[str, Length(...)]"
        )
    if default is not parameter.empty and not isinstance(default, str | None):
        raise syntax_error(f"the default of {name!r} is {default!r:.80}: it is text, or None")
    return Given(name, lengths[0].tokens, True, default)


def _error(
    file: str,
    lines: list[str] | tuple[str, ...],
    node: ast.expr | ast.stmt | ast.arg | ast.pattern,
    message: str,
) -> PMLSyntaxError:
    # an offset counts the bytes of the line in UTF-8
    before = lines[node.lineno - 1].encode()[: node.col_offset].decode(errors="replace")
    return PMLSyntaxError(message, line=node.lineno, column=len(before) + 1, source=file)
