"""Messages to prompt segments, through the model's own chat template.

The template is rendered twice: with sentinels in place of the contents, which says what the
template itself writes around them, and with the contents, which says what the prompt is. Where
the two disagree (templates that trim, split, encode or drop contents) the second stands, see
`fit`. The joined text of the segments is always exactly the template's own rendering.

Decided here:

- Neighbours of equal role are merged, with a blank line between them: most templates either
  refuse them or were never trained on them. Results of tools are not merged.
- A date that a template asks for is that of the object's making, so that two prompts of one
  engine do not differ by it; `date_string` among the template's arguments overrides it.
- Control tokens that a tool's description spells are content, as in a message.

This file does not know tokens or modules' states.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from itertools import chain
from textwrap import shorten
from typing import TYPE_CHECKING, Any, cast

from promptcache.errors import PromptError, TemplateError
from promptcache.segments import Kind, Message, Segment
from promptcache.text.fit import Skeleton, fit

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Tool = Any
"""A JSON schema, or a function with types and a docstring that transformers turns into one."""

_TOOLS = "JSON schemas (dicts), or functions with types and a docstring"
_ROLE = re.compile(r"[A-Za-z_][\w.-]*\Z")
_DATE_CALL = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_OURS = {"conversation", "tools", "chat_template", "tokenize", "add_generation_prompt"}
_KEPT_SKELETONS = 64

_Shape = tuple[tuple[tuple[str, bool], ...], str, bool]
"""Roles and whether each message has text; the tools as JSON; whether the answer is opened."""


class ChatTemplate:
    """A tokenizer's chat template, or the one given in its place, as promptcache renders it.

    `chat_template_kwargs` are handed to the template (`enable_thinking`, `date_string`, ...);
    `now` is the date it is told, by default the present. Any number of threads may render.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        now: datetime | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        kwargs = {} if chat_template_kwargs is None else chat_template_kwargs
        if not isinstance(kwargs, Mapping):
            raise TemplateError(f"chat_template_kwargs is {kwargs!r:.80}, expected a mapping")
        if chat_template is not None and not isinstance(chat_template, str):
            raise TemplateError(
                f"chat_template is {chat_template!r:.80}, expected a jinja template as text"
            )
        self._kwargs = dict(kwargs)
        if ours := sorted(_OURS & self._kwargs.keys()):
            raise TemplateError(f"chat_template_kwargs may not hold {', '.join(ours)}")
        self._given = chat_template
        self._now = now or datetime.now()
        self._nonce = "".join(secrets.choice("123456789") for _ in range(24))
        self._sentinel = re.compile(self._nonce + r"(\d{6})")
        self._skeleton = lru_cache(_KEPT_SKELETONS)(self._render_skeleton)
        self._rewriting = lru_cache(_KEPT_SKELETONS)(self._render_rewriting)

    @property
    def takes_tools(self) -> bool:
        """Whether the template reads the `tools` it is given."""
        return re.search(r"\btools\b", self._source(tools=True)) is not None

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Tool] | None = None,
        add_generation_prompt: bool = True,
    ) -> tuple[Segment, ...]:
        """The prompt's segments: CONTROL for the template's own text, the messages' in between.

        Messages without roles need no template and come back as they are. Raises TemplateError
        where the tokenizer has no template, the template refuses the messages or takes no tools,
        or only some messages have a role; PromptError for no messages.
        """
        if not messages:
            raise PromptError("a prompt needs at least one message")
        _check_roles(messages)
        if messages[0].role is None:
            return tuple(s for message in messages for s in message.segments if s.text or s.hole)
        messages = merge_roles(messages)
        said = _as_json(tools)
        if said and not self.takes_tools:
            raise TemplateError("tools were given, but this model's chat template takes none")
        texts = [message.text for message in messages]
        roles = tuple((cast(str, m.role), bool(t)) for m, t in zip(messages, texts, strict=True))
        shape = (roles, said, add_generation_prompt)
        return fit(
            self._apply(shape, texts, json.loads(said or "null")),
            self._skeleton(shape),
            [message.segments for message in messages],
            lambda index: self._rewriting(shape, index, texts[index]),
        )

    def _render_skeleton(self, shape: _Shape) -> Skeleton | None:
        """What the template writes around contents; None if it only works with real ones."""
        roles, said, _ = shape
        marks: list[str] = []
        tools = self._guarded(json.loads(said or "null"), marks, first=len(roles))
        texts = [self._mark(i) if has_text else "" for i, (_, has_text) in enumerate(roles)]
        try:
            return self._split(self._apply(shape, texts, tools), marks)
        except TemplateError:
            return None

    def _render_rewriting(self, shape: _Shape, index: int, text: str) -> str | None:
        """What the template makes of one message's text, the others being sentinels."""
        skeleton = self._skeleton(shape)
        if skeleton is None or skeleton.slots.count(index) != 1:
            return None
        roles, said, _ = shape
        marks: list[str] = []
        tools = self._guarded(json.loads(said or "null"), marks, first=len(roles))
        texts = [self._mark(i) if has_text else "" for i, (_, has_text) in enumerate(roles)]
        texts[index] = text
        try:
            alone = self._split(self._apply(shape, texts, tools), marks)
        except TemplateError:
            return None
        return skeleton.difference(alone, skeleton.slots.index(index))

    def _split(self, rendering: str, marks: Sequence[str]) -> Skeleton:
        pieces = self._sentinel.split(rendering)
        slots = tuple(int(index) for index in pieces[1::2])
        return Skeleton(tuple(pieces[::2]), slots, tuple(marks))

    def _mark(self, index: int) -> str:
        """A sentinel: digits survive trimming, changes of case and every kind of escaping."""
        return f"{self._nonce}{index:06d}"

    def _guarded(self, tools: Any, marks: list[str], first: int) -> Any:
        """`tools` with a sentinel for each control token that is spelled in them."""
        if isinstance(tools, str):
            for token in sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True):
                while token.strip() and token in tools:
                    tools = tools.replace(token, self._mark(first + len(marks)), 1)
                    marks.append(token)
            return tools
        if isinstance(tools, list):
            return [self._guarded(item, marks, first) for item in tools]
        if isinstance(tools, dict):
            guarded = self._guarded
            return {guarded(k, marks, first): guarded(v, marks, first) for k, v in tools.items()}
        return tools

    def _apply(self, shape: _Shape, texts: Sequence[str], tools: Any) -> str:
        roles, _, add_generation_prompt = shape
        chat = [{"role": r, "content": t} for (r, _), t in zip(roles, texts, strict=True)]
        source = self._source(tools=bool(tools))
        try:
            rendering = self._tokenizer.apply_chat_template(
                chat,
                tools=tools,
                chat_template=source,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self._kwargs,
            )
        except Exception as fault:  # a template is a program of its author's: it can raise anything
            said = ", ".join(role for role, _ in roles)
            raise TemplateError(
                f"the chat template refused these messages (roles: {said}): {fault}"
            ) from fault
        return cast(str, rendering)

    def _source(self, *, tools: bool) -> str:
        """The template's text, with the date it asks for written in."""
        try:
            source = self._tokenizer.get_chat_template(self._given, [{}] if tools else None)
        except ValueError as fault:
            raise TemplateError(
                f"{type(self._tokenizer).__name__} has no chat template for messages with roles: "
                "pass chat_template= with a jinja template, or give text without roles"
            ) from fault
        return _DATE_CALL.sub(lambda call: repr(self._now.strftime(call[2])), source)


def merge_roles(messages: Iterable[Message], separator: str = "\n\n") -> list[Message]:
    """`messages` with neighbours of equal role made one, `separator` between their texts."""
    merged: list[Message] = []
    for message in messages:
        last = merged[-1] if merged else None
        if last is None or last.role != message.role or message.role in (None, "tool"):
            merged.append(message)
        else:
            between = _between(last.segments, message.segments, separator)
            joint = tuple(chain(last.segments, between, message.segments))
            merged[-1] = replace(last, segments=joint)
    return merged


def _between(
    left: Sequence[Segment], right: Sequence[Segment], separator: str
) -> tuple[Segment, ...]:
    """The separator as a segment: part of a module when both neighbours are."""
    if not (left and right and separator):
        return ()
    preamble = left[-1].preamble and right[0].preamble
    if left[-1].module is not None and left[-1].module == right[0].module:
        return (Segment(separator, Kind.MODULE, left[-1].module, preamble=preamble),)
    return (Segment(separator, preamble=preamble),)


def _check_roles(messages: Sequence[Message]) -> None:
    roles = [message.role for message in messages]
    if None in roles and any(role is not None for role in roles):
        raise TemplateError(
            f"{roles.count(None)} of {len(roles)} messages have no role: give every message one "
            "(then the chat template is used), or none of them"
        )
    for role in roles:
        if role is not None and not _ROLE.match(role):
            raise TemplateError(
                f"{role!r} is no role: a role is a word such as system, user or assistant"
            )


def _as_json(tools: Sequence[Tool] | None) -> str:
    if tools is None:
        return ""
    if isinstance(tools, str | bytes) or not isinstance(tools, Sequence):
        raise TemplateError(f"tools is {tools!r:.80}; expected a list of {_TOOLS}")
    said = [_tool_as_json(tool, number) for number, tool in enumerate(tools, 1)]
    return f"[{', '.join(said)}]" if said else ""


def _tool_as_json(tool: Tool, number: int) -> str:
    from transformers.utils.chat_template_utils import get_json_schema

    if not isinstance(tool, dict) and not callable(tool):
        raise TemplateError(f"tool {number} is {tool!r:.80}; expected {_TOOLS}")
    try:
        said = json.dumps(tool if isinstance(tool, dict) else get_json_schema(tool))
        json.dumps(json.loads(said), ensure_ascii=False).encode()  # no half of a surrogate pair
    except Exception as fault:  # a function's signature and docstring fail in many ways
        reason = shorten(str(fault), 240, placeholder=" ...")
        raise TemplateError(
            f"tool {number}, {tool!r:.80}, cannot be described as JSON: {reason}"
        ) from fault
    return said
