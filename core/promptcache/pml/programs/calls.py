"""Calls in a prompt program: what is called, and what it is given."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from inspect import Signature

from promptcache.errors import PMLError
from promptcache.pml.programs.expressions import Expression, condition_of, expression_of
from promptcache.pml.programs.source import Source


def callee_of(source: Source, call: ast.Call) -> object:
    """The object that is called, found by its name; None where there is none yet."""
    if isinstance(call.func, ast.Name | ast.Attribute):
        try:
            return expression_of(source, call.func)({})
        except (AttributeError, KeyError, PMLError):
            return None
    return None


def bound(
    source: Source, call: ast.Call, signature: Signature, code: str
) -> Mapping[str, Expression]:
    """What each argument of a callee is given. PMLSyntaxError for a call that does not fit."""
    starred = any(isinstance(argument, ast.Starred) for argument in call.args)
    if starred or not all(keyword.arg for keyword in call.keywords):
        raise source.error(call, f"{code}(...) takes each argument by itself, not * or **")
    by_place = [condition_of(source, argument) for argument in call.args]
    by_name = {str(k.arg): condition_of(source, k.value) for k in call.keywords}
    try:
        return dict(signature.bind(*by_place, **by_name).arguments)
    except TypeError as error:
        raise source.error(call, f"{code}(...): {error}") from None
