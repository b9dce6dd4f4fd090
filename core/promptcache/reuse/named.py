"""Reuse policies by what a user writes for them: `Modular`, or `FirstK(8)` with arguments.

They are found in `promptcache.reuse`; nothing that is written is ever evaluated as code.
"""

from __future__ import annotations

import ast
import inspect

from promptcache import reuse
from promptcache.errors import OptionError, PromptCacheError, valid
from promptcache.reuse import Modular, ReusePolicy


def known() -> dict[str, type[ReusePolicy]]:
    """Every reuse policy that promptcache exports, by name."""
    named = {name: getattr(reuse, name) for name in reuse.__all__}
    return {
        name: kind
        for name, kind in named.items()
        if inspect.isclass(kind) and issubclass(kind, ReusePolicy) and kind is not ReusePolicy
    }


def usual() -> tuple[ReusePolicy, ...]:
    """Every policy with its own defaults, `Modular` first.

    Those that have no default for a parameter are left out.
    """
    made = []
    for kind in known().values():
        parameters = inspect.signature(kind).parameters.values()
        if all(parameter.default is not parameter.empty for parameter in parameters):
            made.append(kind())
    return tuple(sorted(made, key=lambda policy: not isinstance(policy, Modular)))


def policy(written: str) -> ReusePolicy:
    """The policy that a text names, with its arguments if it has some: literals only.

    Raises OptionError for an unknown name, or arguments that the policy does not take.
    """
    try:
        node = ast.parse(written.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
        name = call.func.id if isinstance(call.func, ast.Name) else written
        arguments = [ast.literal_eval(argument) for argument in call.args]
        named = {str(item.arg): ast.literal_eval(item.value) for item in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError) as error:
        raise OptionError(
            f"the policy {written!r:.80} cannot be read; expected a name, or a name with plain "
            f"arguments{valid(written, known(), what='policies')}"
        ) from error
    if name not in known():
        raise OptionError(
            f"unknown reuse policy {name!r:.80}{valid(name, known(), what='policies')}"
        )
    kind = known()[name]
    try:
        return kind(*arguments, **named)
    except (TypeError, ValueError, PromptCacheError) as error:
        takes = f"{name}{inspect.signature(kind)}"
        raise OptionError(
            f"the policy {written!r:.80} cannot be made of {takes}: {error}"
        ) from error
