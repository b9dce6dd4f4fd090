"""Conditions of prompt programs: from the source's tree to functions of a call's arguments.

Nothing is evaluated but what is listed here: names, constants, attributes, comparisons, and, or,
not. Knows nothing of modules; what one is called after its condition is told here as well.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

from promptcache.errors import PromptError
from promptcache.pml.programs.source import Source

Values = Mapping[str, object]
"""The arguments of a call by name, defaults included."""
Expression = Callable[[Values], object]

_ALLOWED = (
    "allowed are arguments, constants, attributes, comparisons, and, or, not; "
    "compute anything else before the call and give it as an argument"
)
_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], object]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
    ast.In: lambda value, values: operator.contains(values, value),
    ast.NotIn: lambda value, values: not operator.contains(values, value),
}


def condition_of(source: Source, node: ast.expr) -> Expression:
    """The function that an expression is, which raises PromptError where it cannot be evaluated.

    Raises PMLSyntaxError for an expression that programs do not have, and for an unknown name.
    """
    inner = expression_of(source, node)

    def evaluated(values: Values) -> object:
        try:
            return inner(values)
        except Exception as error:  # arguments are objects of the user's: they raise anything
            raise PromptError(f"{source.name}(): {_code(node)} cannot be told: {error}") from error

    return evaluated


def expression_of(source: Source, node: ast.expr) -> Expression:
    """The function that an expression is of a call's arguments: see `condition_of`."""
    match node:
        case ast.Constant(value=value):
            return lambda values: value
        case ast.Name(id=name) if name in source.given:
            return lambda values: values[name]
        case ast.Name(id=name):
            try:
                known = source.known(name)
            except KeyError:
                raise source.error(
                    node, f"{name!r} is no argument of {source.name}, and is not defined before it"
                ) from None
            return lambda values: known
        case ast.Attribute(value=of, attr=attribute):
            owner = expression_of(source, of)
            return lambda values: getattr(owner(values), attribute)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            inner = expression_of(source, operand)
            return lambda values: not inner(values)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
            return lambda values: -number
        case ast.BoolOp(op=op, values=operands):
            parts = [expression_of(source, operand) for operand in operands]
            every = all if isinstance(op, ast.And) else any
            return lambda values: every(part(values) for part in parts)
        case ast.Tuple(elts=items) | ast.List(elts=items) | ast.Set(elts=items):
            members = [expression_of(source, item) for item in items]
            return lambda values: tuple(member(values) for member in members)
        case ast.Compare(left=left, ops=ops, comparators=others):
            return _comparison(source, [left, *others], ops)
        case _:
            raise source.error(node, f"{_code(node)} cannot stand here: {_ALLOWED}")


def _comparison(source: Source, nodes: list[ast.expr], ops: list[ast.cmpop]) -> Expression:
    parts = [expression_of(source, node) for node in nodes]
    compare = [_COMPARE[type(op)] for op in ops]

    def holds(values: Values) -> bool:
        found = [part(values) for part in parts]
        return all(
            test(one, other) for test, one, other in zip(compare, found, found[1:], strict=False)
        )

    return holds


def pattern_of(source: Source, pattern: ast.pattern) -> Callable[[object, Values], bool]:
    """Whether a value is what a `case` says. PMLSyntaxError for patterns other than values."""
    match pattern:
        case ast.MatchValue(value=node):
            wanted = expression_of(source, node)
            return lambda value, values: value == wanted(values)
        case ast.MatchSingleton(value=constant):
            return lambda value, values: value is constant
        case ast.MatchOr(patterns=patterns):
            options = [pattern_of(source, option) for option in patterns]
            return lambda value, values: any(option(value, values) for option in options)
        case ast.MatchAs(pattern=None, name=None):
            return lambda value, values: True
        case _:
            raise source.error(
                pattern,
                f"case {_code(pattern)} cannot stand here: a case is a constant, several of them "
                "with | between, or _",
            )


def label_of(node: ast.expr) -> str:
    """What a module is called after its condition: `rain`, or `maui` of `place == "maui"`."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return f"not-{label_of(operand)}"
        case ast.Compare(
            ops=[ast.Eq() | ast.Is()],
            comparators=[(ast.Constant(value=str()) | ast.Attribute()) as right],
        ):
            return label_of(right)
        case _:
            return ast.unparse(node)


def label_of_pattern(pattern: ast.pattern) -> str:
    """What a member of a union is called after its case."""
    match pattern:
        case ast.MatchValue(value=node):
            return label_of(node)
        case ast.MatchOr(patterns=patterns):
            return "-or-".join(map(label_of_pattern, patterns))
        case ast.MatchAs():
            return "else"
        case _:
            return ast.unparse(pattern)


def as_name(label: str) -> str:
    """The label in the letters that names have; "" if it has none of them."""
    return re.sub(r"[^\w]+", "-", label)[:40].strip("-")


def _code(node: ast.AST) -> str:
    code = ast.unparse(node).replace("\n", " ")
    return repr(code if len(code) <= 60 else code[:57] + "...")
