"""What tools of a request mean for its answer: how calls look there, and how one is asked for.

How a model writes calls is read off its chat template, which is given one to render. So is what
an answer begins with that must call a tool: it is put after the prompt, and the model goes on from
there. Knows templates and names of tools, not how calls are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from promptcache.errors import OptionError, TemplateError, valid
from promptcache.segments import Kind, Segment, joined
from promptcache.text.callforms import MARKS, SIGNS, Parameters
from promptcache.text.calls import read_calls
from promptcache.text.chat import ChatTemplate
from promptcache.text.tools import Tool, parameters_by_name, tools_as_json

AUTO, NONE, ANY = "auto", "none", "any"
_KEPT_FORMS = 16
_NAME, _KEY, _VALUE = "xnamex", "xkeyx", "xvaluex"
_THOUGHT, _THOUGHT_END = "<think>", "\n</think>\n\n"


@dataclass(frozen=True, slots=True)
class Calling:
    """How the calls in one answer are found.

    marks: what they begin with, beside calls that are bare JSON; shown: the special tokens that
    are part of their form, which decoding would drop; opening: what the answer begins with, as
    part of the prompt, because it has to call a tool.
    """

    marks: tuple[str, ...]
    shown: frozenset[int]
    parameters: Parameters
    opening: tuple[Segment, ...] = ()

    @property
    def opened(self) -> str:
        """The text of the opening."""
        return joined(self.opening)


@dataclass(frozen=True, slots=True)
class _Form:
    """How the template writes a call: after its generation prompt, from which `closing` leads
    there, or None if it does not; and the marks that calls have.
    """

    closing: str
    call: str | None
    marks: tuple[str, ...]


class Callings:
    """The ways of calling tools that one chat template has. Any number of threads may ask."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._form = lru_cache(_KEPT_FORMS)(self._find_form)

    def of(self, tools: Sequence[Tool] | None, choice: Any = None) -> Calling | None:
        """How a request's answer calls its tools; None where calls are not looked for.

        `choice`: None or "auto" leaves it to the model; "none": no calls; "any", "required" or
        True: a call of any tool; a tool's name, or {"type": "function", "function": {"name": ...}}:
        a call of that one. Raises OptionError for anything else, and where the template does not
        say how a call begins that must be made; TemplateError for a template that takes no tools,
        or writes calls in a form that is not read.
        """
        said = tools_as_json(tools)
        parameters = parameters_by_name(said)
        wanted = _wanted(choice, parameters)
        if not said:
            return None
        if not self._template.takes_tools:
            raise TemplateError("tools were given, but this model's chat template takes none")
        if wanted == NONE:
            return None
        form = self._form(said)
        signs = {sign for mark in form.marks for sign in SIGNS[mark]}
        shown = frozenset(
            id_
            for id_, token in self._template.tokenizer.added_tokens_decoder.items()
            if token.special and token.content in signs
        )
        opening = () if wanted == AUTO else _opening(form, wanted, list(parameters))
        return Calling(form.marks, shown, parameters, opening)

    def _find_form(self, said: str) -> _Form:
        tools = json.loads(said)
        asked = {"role": "user", "content": "x"}
        function = {"name": _NAME, "arguments": {_KEY: _VALUE}}
        called = {"type": "function", "id": "000000000", "function": function}
        call = {"role": "assistant", "content": "", "tool_calls": [called]}
        source = self._template.source(tools=True)
        elsewhere = tuple(mark for mark in MARKS if mark in source) or MARKS
        try:
            prompt = self._template.plain([asked], tools, add_generation_prompt=True)
            whole = self._template.plain([asked, call], tools, add_generation_prompt=False)
        except TemplateError:
            return _Form("", None, elsewhere)
        closing, written = _after(prompt, whole)
        if written is None or _NAME not in written:
            return _Form("", None, elsewhere)
        written = written.removesuffix(self._ending(asked, tools))
        marks = tuple(mark for mark in MARKS if mark in written)
        read = read_calls(written, marks, {_NAME: {}})
        if [(found.name, found.arguments) for found in read.calls] != [(_NAME, {_KEY: _VALUE})]:
            raise TemplateError(
                "this model's chat template writes calls of tools in a form that is not read, "
                f"{written[:120]!r}; with tool_choice='none' the tools are in the prompt all the "
                "same, and the whole answer is text"
            )
        return _Form(closing, written, marks)

    def _ending(self, asked: dict[str, Any], tools: Any) -> str:
        """What the template writes after an answer."""
        answer = {"role": "assistant", "content": _VALUE}
        try:
            whole = self._template.plain([asked, answer], tools, add_generation_prompt=False)
        except TemplateError:
            return ""
        return whole.rpartition(_VALUE)[2]


def _after(prompt: str, whole: str) -> tuple[str, str | None]:
    """What follows the generation prompt in a rendering, None if that is not there; and before it,
    what ends the thought that the prompt began and the rendering does not have.
    """
    if whole.startswith(prompt):
        return "", whole[len(prompt) :]
    before = prompt.rstrip().removesuffix(_THOUGHT)
    if before == prompt or not whole.startswith(before):
        return "", None
    call = whole[len(before) :]
    if call.startswith(_THOUGHT):  # an empty thought of the template's own
        return "", call.removeprefix(_THOUGHT)
    return _THOUGHT_END, call


def _opening(form: _Form, wanted: str, names: Sequence[str]) -> tuple[Segment, ...]:
    """What an answer begins with that has to call a tool: the template's own call, up to the
    name, or, where that is settled, up to the arguments.
    """
    call = form.call or ""
    at = call.find(_NAME)
    key = call.find(_KEY, at)
    if at < 0 or key < 0:
        raise OptionError(
            f"tool_choice={wanted!r} needs a chat template that writes calls after its "
            "generation prompt, and this model's does not (valid: 'auto', 'none')"
        )
    before = Segment(form.closing + call[:at], Kind.CONTROL)
    if wanted == ANY and len(names) > 1:
        return (before,)
    between = call[at + len(_NAME) : key]
    value = max(between.rfind(sign) for sign in "{<(")
    between = between[: max(value, 0)].rstrip()
    parts = (
        before,
        Segment(names[0] if wanted == ANY else wanted),
        Segment(between, Kind.CONTROL),
    )
    return tuple(part for part in parts if part.text)


def _wanted(choice: Any, names: Parameters) -> str:
    """`choice` as AUTO, NONE, ANY or a tool's name."""
    if isinstance(choice, dict) and isinstance(choice.get("function"), dict):
        choice = choice["function"].get("name")
    if choice is None:
        return AUTO
    if choice is True or choice == "required":
        choice = ANY
    if choice in (AUTO, NONE):
        return str(choice)
    if not names:
        raise OptionError(f"tool_choice={choice!r} needs tools, and there are none")
    if not isinstance(choice, str) or (choice != ANY and choice not in names):
        known = (AUTO, NONE, ANY, "required", *names)
        raise OptionError(f"tool_choice={choice!r} is no tool{valid(str(choice), known)}")
    return str(choice)
