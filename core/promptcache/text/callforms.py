"""The forms in which models write calls of tools, each read by a function of its own.

- tagged: `<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, or a function form inside;
- function: `<function=name>{...}</function>`, or `<parameter=x>value</parameter>` inside;
- listed: `[TOOL_CALLS]` and a list of objects, or `name[ARGS]{...}`.

Tagged are those of Hermes and Qwen, with functions inside those of Qwen Coder; functions those of
Llama 3.1's own tools and Functionary; listed those of Mistral. For forms that are no JSON see
`textforms`. Each reader reads from the first mark on.
"""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from promptcache.text.textforms import braced, keyed, python

T = TypeVar("T")
Parameters = Mapping[str, Mapping[str, Any]]
"""For each tool by name, the JSON schemas of its parameters."""

TAG, FUNCTION, LIST = "<tool_call>", "<function=", "[TOOL_CALLS]"
PYTHON, BRACED = "<|tool_call_start|>", "<|tool_call>"
MARKS = (TAG, FUNCTION, LIST, PYTHON, BRACED)
"""What calls begin with."""
SIGNS = {
    TAG: (TAG, "</tool_call>"),
    FUNCTION: ("</function>", "</parameter>"),
    LIST: (LIST, "[CALL_ID]", "[ARGS]"),
    PYTHON: (PYTHON, "<|tool_call_end|>"),
    BRACED: (BRACED, "<tool_call|>", '<|"|>'),
}
"""What belongs to a form and may be one token each."""

_ARGUMENTS = ("arguments", "parameters")
_LISTED = re.compile(
    r"\s*([\w.-]+)\s*(?:\[CALL_ID\]\s*([\w-]+)\s*)?(?:\[ARGS\])?\s*(?=\{)", re.ASCII
)
_TAGGED = re.compile(r"<tool_call>(.*?)(?:</tool_call>|(?=<tool_call>)|\Z)", re.S)
_FUNCTION = re.compile(r"<function=([^>\s]+)>(.*?)(?:</function>|(?=<function=)|\Z)", re.S)
_TAG_END = re.compile(r"\s*(?:</tool_call>|(?=<tool_call>)|\Z)")
_FUNCTION_END = re.compile(r"\s*(?:</function>|(?=<)|\Z)")
_PARAMETER = re.compile(r"<parameter=([^>\s]+)>(.*?)(?:</parameter>|(?=<parameter=)|\Z)", re.S)
_PYTHONIC = re.compile(r"<\|tool_call_start\|>(.*?)(?:<\|tool_call_end\|>|\Z)", re.S)
_BRACES = re.compile(r"<\|tool_call>(.*?)(?:<tool_call\|>|(?=<\|tool_call>)|\Z)", re.S)
_JSON = json.JSONDecoder(strict=False)
_ID = string.ascii_letters + string.digits
_CUT = "the answer ends before the call does"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool that the model asks for, with its arguments. `id` is the model's own, or a new one."""

    name: str
    arguments: dict[str, Any]
    id: str


@dataclass(frozen=True, slots=True)
class InvalidCall:
    """What begins as a call and cannot be read: its text, whole, and the reason."""

    text: str
    reason: str
    name: str | None = None


class UnreadableError(Exception):
    """Why a call cannot be read."""

    def __init__(self, reason: str, name: str | None = None) -> None:
        super().__init__(reason)
        self.name = name


Item = ToolCall | InvalidCall | str
"""A call, or text that is part of none."""


def _tagged(text: str, parameters: Parameters) -> Iterator[Item]:
    return _each(_TAGGED, text, _tag, parameters)


def _functions(text: str, parameters: Parameters) -> Iterator[Item]:
    return _each(_FUNCTION, text, _function, parameters)


def _each(
    pattern: re.Pattern[str],
    text: str,
    read: Callable[[re.Match[str], Parameters], tuple[T, int]],
    parameters: Parameters,
) -> Iterator[T | InvalidCall | str]:
    """The calls that a pattern finds, and the text around them.

    `read` is told a match, and says what it holds and where that ends: JSON may spell the closing
    tag, and a pattern cannot know.
    """
    position = 0
    while found := pattern.search(text, position):
        yield text[position : found.start()]
        try:
            call, position = read(found, parameters)
            yield call
        except UnreadableError as fault:
            position = found.end()
            yield InvalidCall(found[0], str(fault), fault.name)
    yield text[position:]


def _tag(found: re.Match[str], parameters: Parameters) -> tuple[ToolCall, int]:
    is_cut = _is_cut(found, "</tool_call>")
    if found[1].lstrip().startswith(FUNCTION) and (inner := _FUNCTION.search(found[1])):
        if is_cut and _is_cut(inner, "</function>") and not inner[2].lstrip().startswith("{"):
            raise UnreadableError(_CUT, inner[1])
        return _read_function(inner, parameters)[0], found.end()
    call = keyed(found[1], lambda name, key, text: _typed(text, name, key, parameters))
    if call and (call[1] or call[0] in parameters):  # a word alone is a name if it is a tool's
        if is_cut:
            raise UnreadableError(_CUT, call[0])
        return call_of({"name": call[0], "arguments": call[1]}), found.end()
    value, end = decoded(found.string, found.start(1))
    closed = _TAG_END.match(found.string, end)
    if closed is None:
        raise UnreadableError(f"{found.string[end:].strip()[:40]!r} follows the call")
    return call_of(value), closed.end()


def _is_cut(found: re.Match[str], end: str) -> bool:
    """Whether the answer ended before the call did: what came of an argument may be half of it."""
    return found.end() == len(found.string) and not found[0].endswith(end)


def _function(found: re.Match[str], parameters: Parameters) -> tuple[ToolCall, int]:
    if _is_cut(found, "</function>") and not found[2].lstrip().startswith("{"):
        raise UnreadableError(_CUT, found[1])
    return _read_function(found, parameters)


def _read_function(found: re.Match[str], parameters: Parameters) -> tuple[ToolCall, int]:
    name, body = found[1], found[2]
    if not body.strip():
        return call_of({"name": name}), found.end()
    if body.lstrip().startswith("{"):
        value, end = decoded(found.string, found.start(2), name)
        closed = _FUNCTION_END.match(found.string, end)
        if closed is None:
            raise UnreadableError(f"{found.string[end:].strip()[:40]!r} follows the call", name)
        return call_of({"name": name, "arguments": value}), closed.end()
    given = list(_PARAMETER.finditer(body))
    if not given:
        raise UnreadableError("neither JSON nor <parameter=...> follows the name", name)
    arguments = {p[1]: _typed(p[2].strip("\n"), name, p[1], parameters) for p in given}
    return call_of({"name": name, "arguments": arguments}), found.end()


def _typed(value: str, name: str, key: str, parameters: Parameters) -> Any:
    """An argument that was written as text, as the tool's schema has it."""
    schema = parameters.get(name, {}).get(key)
    if isinstance(schema, dict) and schema.get("type") == "string":
        return value
    try:
        return _JSON.decode(value)
    except ValueError:
        return value


def _listed(text: str, _: Parameters) -> Iterator[Item]:
    """Calls after `[TOOL_CALLS]`, which may stand again before each of them."""
    position = start = 0
    try:
        while text.startswith(LIST, position) or _LISTED.match(text, position):
            start = position
            position += len(LIST) if text.startswith(LIST, position) else 0
            if named := _LISTED.match(text, position):
                arguments, position = decoded(text, named.end(), named[1])
                yield call_of({"name": named[1], "arguments": arguments, "id": named[2]})
            else:
                value, position = decoded(text, position)
                yield from map(call_of, value if isinstance(value, list) else [value])
            position += len(text[position:]) - len(text[position:].lstrip())
    except UnreadableError as fault:
        yield InvalidCall(text[start:], str(fault), fault.name)
    else:
        yield text[position:]


def _pythonic(text: str, parameters: Parameters) -> Iterator[Item]:
    for item in _each(_PYTHONIC, text, _python, parameters):
        yield from item if isinstance(item, list) else [item]


def _python(found: re.Match[str], _: Parameters) -> tuple[list[ToolCall], int]:
    calls = python(found[1])
    if calls is None:
        raise UnreadableError("the calls are not a list in Python's syntax")
    return [call_of({"name": name, "arguments": given}) for name, given in calls], found.end()


def _braces(text: str, parameters: Parameters) -> Iterator[Item]:
    return _each(_BRACES, text, _brace, parameters)


def _brace(found: re.Match[str], _: Parameters) -> tuple[ToolCall, int]:
    call = braced(found[1])
    if call is None:
        raise UnreadableError("the call is not call:name{...}")
    return call_of({"name": call[0], "arguments": call[1]}), found.end()


READERS: dict[str, Callable[[str, Parameters], Iterator[Item]]] = {
    TAG: _tagged,
    FUNCTION: _functions,
    LIST: _listed,
    PYTHON: _pythonic,
    BRACED: _braces,
}


def decoded(text: str, position: int, name: str | None = None) -> tuple[Any, int]:
    """The JSON value that begins at a place, and where it ends."""
    while position < len(text) and text[position].isspace():
        position += 1
    try:
        return _JSON.raw_decode(text, position)
    except (ValueError, RecursionError) as fault:
        raise UnreadableError(f"the call is not valid JSON: {fault}", name) from None


def call_of(value: Any) -> ToolCall:
    """A call from the JSON object that says it. Raises UnreadableError."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = {**value["function"], "id": value.get("id")}
    name = value.get("name") if isinstance(value, dict) else None
    if not isinstance(name, str) or not name:
        raise UnreadableError("the call has no name")
    given = (value[key] for key in _ARGUMENTS if value.get(key) is not None)
    arguments: Any = next(given, {})
    if isinstance(arguments, str):
        arguments, _ = decoded(arguments or "{}", 0, name)
    if not isinstance(arguments, dict):
        raise UnreadableError(f"the arguments are {arguments!r:.40}, not a JSON object", name)
    own = value.get("id")
    return ToolCall(name, arguments, own if isinstance(own, str) and own else _new_id())


def _new_id() -> str:
    """An id for a call: nine letters and digits, the only form that Mistral's templates take."""
    return "".join(secrets.choice(_ID) for _ in range(9))
