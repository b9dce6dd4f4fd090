"""Messages to prompt segments, through the model's own chat template.

The template is rendered twice: with sentinels in place of the contents, which says what the
template itself writes around them, and with the contents, which says what the prompt is. Where
the two disagree (templates that trim, split, encode or drop contents) the second stands, see
`fit`. The joined text of the segments is always exactly the template's own rendering.

Decided here:

- Neighbours of equal role are merged, with a blank line between them: most templates either
  refuse them or were never trained on them. Calls and results of tools are not merged.
- A date that a template asks for is that of the object's making, so that two prompts of one
  engine do not differ by it; `date_string` among the template's arguments overrides it.
- Control tokens that a tool's description, a call or its arguments spell are content, as in a
  message.

This file does not know tokens or modules' states.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, cast

from promptcache.errors import PromptError, TemplateError
from promptcache.segments import Message, Segment
from promptcache.text.fit import Skeleton, fit
from promptcache.text.merge import check_roles, merge_roles
from promptcache.text.tools import Tool, tools_as_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DATE_CALL = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_OURS = {"conversation", "tools", "chat_template", "tokenize", "add_generation_prompt"}
_KEPT_SKELETONS = 64

_Shape = tuple[tuple[tuple[str, bool, str], ...], str, bool]
"""Each message's role, whether it has text, and its other fields as JSON; the tools as JSON;
whether the answer is opened."""


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
        self.tokenizer = tokenizer
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
        return re.search(r"\btools\b", self.source(tools=True)) is not None

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template takes a system message."""
        said = [Message(role, (Segment(role),)) for role in ("system", "user")]
        try:
            return bool(self.render(said))
        except TemplateError:
            return False

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
        check_roles(messages)
        if messages[0].role is None:
            return tuple(s for message in messages for s in message.segments if s.text or s.hole)
        messages = merge_roles(messages)
        said = tools_as_json(tools)
        if said and not self.takes_tools:
            raise TemplateError("tools were given, but this model's chat template takes none")
        texts = [message.text for message in messages]
        turns = tuple(
            (cast(str, m.role), bool(t), m.fields) for m, t in zip(messages, texts, strict=True)
        )
        shape = (turns, said, add_generation_prompt)
        self._check_calls(shape)
        return fit(
            self._apply(shape, texts, _told(shape)),
            self._skeleton(shape),
            [message.segments for message in messages],
            lambda index: self._rewriting(shape, index, texts[index]),
        )

    def plain(
        self, chat: Sequence[Mapping[str, Any]], tools: Any, *, add_generation_prompt: bool
    ) -> str:
        """The template's own rendering of messages and tools as transformers takes them.

        Raises TemplateError where it refuses them.
        """
        try:
            rendering = self.tokenizer.apply_chat_template(
                list(chat),
                tools=tools,
                chat_template=self.source(tools=bool(tools)),
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                **self._kwargs,
            )
        except TemplateError:
            raise
        except Exception as fault:  # a template is a program of its author's: it can raise anything
            roles = ", ".join(str(message.get("role")) for message in chat)
            raise TemplateError(
                f"the chat template refused these messages (roles: {roles}): {fault}"
            ) from fault
        return cast(str, rendering)

    def _check_calls(self, shape: _Shape) -> None:
        """Calls that a template leaves out would make a prompt in which nobody asked a tool."""
        turns, said, _ = shape
        for number, (_, _, fields) in enumerate(turns, 1):
            if "tool_calls" in json.loads(fields or "{}"):
                if "tool_calls" not in self.source(tools=bool(said)):
                    raise TemplateError(
                        f"message {number} calls tools, which this model's chat template cannot "
                        "render: use a model whose template takes tool_calls, or pass "
                        "chat_template= with one"
                    )
                return

    def _render_skeleton(self, shape: _Shape) -> Skeleton | None:
        """What the template writes around contents; None if it only works with real ones."""
        texts, told, marks = self._with_sentinels(shape)
        try:
            return self._split(self._apply(shape, texts, told), marks)
        except TemplateError:
            return None

    def _render_rewriting(self, shape: _Shape, index: int, text: str) -> str | None:
        """What the template makes of one message's text, the others being sentinels."""
        skeleton = self._skeleton(shape)
        if skeleton is None or skeleton.slots.count(index) != 1:
            return None
        texts, told, marks = self._with_sentinels(shape)
        texts[index] = text
        try:
            alone = self._split(self._apply(shape, texts, told), marks)
        except TemplateError:
            return None
        return skeleton.difference(alone, skeleton.slots.index(index))

    def _with_sentinels(self, shape: _Shape) -> tuple[list[str], list[Any], list[str]]:
        """A sentinel for each text; what else is told, with one for each control token in it; and
        those control tokens.
        """
        turns, _, _ = shape
        marks: list[str] = []
        told = self._guarded(_told(shape), marks, first=len(turns))
        texts = [self._mark(i) if has_text else "" for i, (_, has_text, _) in enumerate(turns)]
        return texts, told, marks

    def _split(self, rendering: str, marks: Sequence[str]) -> Skeleton:
        pieces = self._sentinel.split(rendering)
        slots = tuple(int(index) for index in pieces[1::2])
        return Skeleton(tuple(pieces[::2]), slots, tuple(marks))

    def _mark(self, index: int) -> str:
        """A sentinel: digits survive trimming, changes of case and every kind of escaping."""
        return f"{self._nonce}{index:06d}"

    def _guarded(self, told: Any, marks: list[str], first: int) -> Any:
        """`told` with a sentinel for each control token that is spelled in it."""
        if isinstance(told, str):
            for token in sorted(self.tokenizer.get_added_vocab(), key=len, reverse=True):
                while token.strip() and token in told:
                    told = told.replace(token, self._mark(first + len(marks)), 1)
                    marks.append(token)
            return told
        if isinstance(told, list):
            return [self._guarded(item, marks, first) for item in told]
        if isinstance(told, dict):
            guarded = self._guarded
            return {guarded(k, marks, first): guarded(v, marks, first) for k, v in told.items()}
        return told

    def _apply(self, shape: _Shape, texts: Sequence[str], told: Sequence[Any]) -> str:
        turns, _, add_generation_prompt = shape
        chat = [
            {"role": role, "content": text, **fields}
            for (role, _, _), text, fields in zip(turns, texts, told[1:], strict=True)
        ]
        return self.plain(chat, told[0], add_generation_prompt=add_generation_prompt)

    def source(self, *, tools: bool) -> str:
        """The template's text, with the date it asks for written in."""
        try:
            source = self.tokenizer.get_chat_template(self._given, [{}] if tools else None)
        except ValueError as fault:
            raise TemplateError(
                f"{type(self.tokenizer).__name__} has no chat template for messages with roles: "
                "pass chat_template= with a jinja template, or give text without roles"
            ) from fault
        return _DATE_CALL.sub(lambda call: repr(self._now.strftime(call[2])), source)


def _told(shape: _Shape) -> list[Any]:
    """What a template is told beside roles and texts: the tools, then each message's fields."""
    turns, tools, _ = shape
    return [json.loads(tools or "null"), *(json.loads(fields or "{}") for *_, fields in turns)]
