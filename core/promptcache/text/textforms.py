"""Forms of calls whose arguments are no JSON: those of GLM, of LFM2 and of Gemma 4.

- keyed, inside `<tool_call>`: the name, then `<arg_key>x</arg_key><arg_value>value</arg_value>`;
- Python: `<|tool_call_start|>[name(x='value')]<|tool_call_end|>`;
- braced: `<|tool_call>call:name{x:<|"|>value<|"|>}<tool_call|>`.

From a call's text to its name and arguments; knows nothing of what stands around a call.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable
from typing import Any

_KEYED = re.compile(r"\s*([\w.-]+)\s*((?:<arg_key>.*)?)\Z", re.S)
_PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.S)
_BRACED = re.compile(r"\s*call:([\w.-]+)(\{.*\})\s*\Z", re.S)
_QUOTE = '<|"|>'
_KEY = re.compile(r"([{,])\s*([\w.-]+)\s*:")

Call = tuple[str, dict[str, Any]]


def keyed(body: str, typed: Callable[[str, str, str], Any]) -> Call | None:
    """GLM's call; `typed(tool, parameter, text)` is an argument's value. None if it is none."""
    found = _KEYED.match(body)
    if found is None:
        return None
    name = found[1]
    if _PAIR.sub("", found[2]).strip():
        return None
    return name, {pair[1]: typed(name, pair[1], pair[2]) for pair in _PAIR.finditer(found[2])}


def python(body: str) -> list[Call] | None:
    """The calls of a list in Python's syntax, with literals as arguments. None if it is none."""
    try:
        tree = ast.parse(body.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_python_call(call) for call in calls]
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return None


def _python_call(call: ast.expr) -> Call:
    if not isinstance(call, ast.Call) or call.args or any(k.arg is None for k in call.keywords):
        raise ValueError
    arguments = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    json.dumps(arguments)  # a set or bytes are literals, too
    return ast.unparse(call.func), arguments


def braced(body: str) -> Call | None:
    """Gemma 4's call. None if it is none."""
    found = _BRACED.match(body)
    if found is None:
        return None
    parts = found[2].split(_QUOTE)  # every second one is the text of a string
    said = "".join(
        json.dumps(part) if index % 2 else _KEY.sub(r'\1"\2":', part)
        for index, part in enumerate(parts)
    )
    try:
        arguments = json.loads(said)
    except ValueError:
        return None
    return found[1], arguments
