"""Calls of tools, read out of an answer's text.

A call that begins with a mark (see `callforms`) is a call, or an invalid one that says why. Llama
3.1 and 3.2 write none: their answer is nothing but `{"name": ..., "parameters": {...}}`, several
with `;` between them. Such a bare object is a call only if it names one of the request's tools;
otherwise the answer is JSON that somebody asked for. What a model thinks, up to `</think>`, is no
call. Knows no template and no tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from promptcache.text.callforms import (
    READERS,
    InvalidCall,
    Parameters,
    ToolCall,
    UnreadableError,
    call_of,
    decoded,
)

_THOUGHT = "</think>"
_PYTHON_TAG = "<|python_tag|>"
"""What Llama may write before a bare call."""
_KEYS = ("name", "type", "function", "parameters", "arguments")
_BARE = tuple(f'{begin}"{key}"' for begin in ("{", "[{") for key in _KEYS)


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer's text, parted into what is said and what is called."""

    content: str
    calls: tuple[ToolCall, ...] = ()
    invalid: tuple[InvalidCall, ...] = ()


def content_end(text: str, marks: tuple[str, ...]) -> int:
    """How much of the beginning of an answer is content, whatever comes after it.

    White space before a call is none; where a mark or a bare call may have begun, what follows is
    held back.
    """
    start = _after_thought(text, marks)
    if _maybe_bare(text[start:]):
        return start
    end = _first(text, marks, start)
    if end is None:
        end = len(text) - max((_overlap(text, mark) for mark in marks), default=0)
    return len(text[:end].rstrip())


def read_calls(
    text: str, marks: tuple[str, ...], parameters: Parameters, *, forced: bool = False
) -> Answer:
    """An answer's calls, in order. `forced`: it was made to begin with one."""
    start = _after_thought(text, marks)
    found = _first(text, marks, start)
    if found is None:
        return _bare(text, start, parameters, forced=forced)
    calls: list[ToolCall] = []
    invalid: list[InvalidCall] = []
    left = ""
    for item in READERS[_mark_at(text, found, marks)](text[found:], parameters):
        if isinstance(item, ToolCall):
            calls.append(item)
        elif isinstance(item, InvalidCall):
            invalid.append(item)
        else:
            left += item
    content = [part for part in (text[:found].rstrip(), left.strip()) if part]
    return Answer("\n".join(content), tuple(calls), tuple(invalid))


def _bare(text: str, start: int, parameters: Parameters, *, forced: bool) -> Answer:
    """An answer without a mark: calls if it is nothing but them, else content."""
    body = text[start:].strip().removeprefix(_PYTHON_TAG).strip()
    try:
        values = list(_values(body)) if body[:1] in ("{", "[") else []
        calls = tuple(map(call_of, values))
        if not calls and forced:
            raise UnreadableError("there is no call")
    except UnreadableError as fault:
        if not forced:
            return Answer(text)
        return Answer(text[:start].rstrip(), (), (InvalidCall(body, str(fault), fault.name),))
    is_asked = forced or (
        _maybe_bare(text[start:]) and all(call.name in parameters for call in calls)
    )
    if not calls or not is_asked:
        return Answer(text)
    return Answer(text[:start].rstrip(), calls)


def _values(body: str) -> Iterator[Any]:
    position = 0
    while position < len(body):
        value, position = decoded(body, position)
        yield from value if isinstance(value, list) else [value]
        while position < len(body) and body[position] in "; \t\r\n":
            position += 1


def _after_thought(text: str, marks: tuple[str, ...]) -> int:
    if text.lstrip().startswith(marks):
        return 0  # a call, whose arguments may spell the end of a thought
    at = text.find(_THOUGHT)
    return 0 if at < 0 else at + len(_THOUGHT)


def _maybe_bare(text: str) -> bool:
    """Whether an answer that begins so may be nothing but a bare call."""
    said = text.strip().removeprefix(_PYTHON_TAG)
    compact = re.sub(r"\s", "", said[:80])
    if not compact:
        return False
    return any(b.startswith(compact) or compact.startswith(b) for b in (*_BARE, _PYTHON_TAG))


def _first(text: str, marks: tuple[str, ...], start: int) -> int | None:
    """Where the first mark stands."""
    return min((at for mark in marks if (at := text.find(mark, start)) >= 0), default=None)


def _mark_at(text: str, at: int, marks: tuple[str, ...]) -> str:
    return next(mark for mark in marks if text.startswith(mark, at))


def _overlap(text: str, mark: str) -> int:
    """How many characters at the end of the text might be the beginning of the mark."""
    longest = min(len(text), len(mark) - 1)
    return next((n for n in range(longest, 0, -1) if mark.startswith(text[-n:])), 0)
