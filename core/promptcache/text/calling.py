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
from promptcache.text.chat import ChatTemplate
from promptcache.text.tools import Tool, parameters_by_name, tools_as_json

AUTO, NONE, ANY = "auto", "none", "any"
_KEPT_EXAMPLES = 16
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
class _Example:
    """A call as the template writes it: before its name, and from there to its first argument."""

    before: str
    between: str


class Callings:
    """The ways of calling tools that one chat template has. Any number of threads may ask."""

    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._example = lru_cache(_KEPT_EXAMPLES)(self._render_example)
        self._marks = lru_cache(_KEPT_EXAMPLES)(self._find_marks)

    def of(self, tools: Sequence[Tool] | None, choice: Any = None) -> Calling | None:
        """How a request's answer calls its tools; None where calls are not looked for.

        `choice`: None or "auto" leaves it to the model; "none": no calls; "any", "required" or
        True: a call of any tool; a tool's name, or {"type": "function", "function": {"name": ...}}:
        a call of that one. Raises OptionError for anything else, and where the template does not
        say how a call begins that must be made; TemplateError for a template that takes no tools.
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
        marks = self._marks(said)
        signs = {sign for mark in marks for sign in SIGNS[mark]}
        shown = frozenset(
            id_
            for id_, token in self._template.tokenizer.added_tokens_decoder.items()
            if token.special and token.content in signs
        )
        opening = () if wanted == AUTO else self._opening(said, wanted, list(parameters))
        return Calling(marks, shown, parameters, opening)

    def _opening(self, said: str, wanted: str, names: Sequence[str]) -> tuple[Segment, ...]:
        example = self._example(said)
        if example is None:
            raise OptionError(
                f"tool_choice={wanted!r} needs a chat template that writes calls after its "
                "generation prompt, and this model's does not (valid: 'auto', 'none')"
            )
        before = Segment(example.before, Kind.CONTROL)
        if wanted == ANY and len(names) > 1:
            return (before,)
        name = names[0] if wanted == ANY else wanted
        value = max(example.between.rfind(sign) for sign in "{<")
        between = example.between[: max(value, 0)].rstrip()
        parts = (before, Segment(name), Segment(between, Kind.CONTROL))
        return tuple(part for part in parts if part.text)

    def _find_marks(self, said: str) -> tuple[str, ...]:
        """The marks in the template's own call, else those in its text, else all of them."""
        call = self._call(said)[1] or ""
        if call.lstrip().startswith(("{", "[{")):
            return ()
        for text in (call, self._template.source(tools=True)):
            if marks := tuple(mark for mark in MARKS if mark in text):
                return marks
        return MARKS

    def _render_example(self, said: str) -> _Example | None:
        closing, call = self._call(said)
        if call is None:
            return None
        name = call.find(_NAME)
        key = call.find(_KEY, name)
        if not 0 <= name < key:
            return None
        return _Example(closing + call[:name], call[name + len(_NAME) : key])

    def _call(self, said: str) -> tuple[str, str | None]:
        """What the template writes in a call's message after its generation prompt, None if it
        does not; and before, what ends the thought that the generation prompt began.
        """
        tools = json.loads(said)
        asked = {"role": "user", "content": "x"}
        function = {"name": _NAME, "arguments": {_KEY: _VALUE}}
        call = {"type": "function", "id": "000000000", "function": function}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        try:
            prompt = self._template.plain([asked], tools, add_generation_prompt=True)
            whole = self._template.plain([asked, answer], tools, add_generation_prompt=False)
        except TemplateError:
            return "", None
        if whole.startswith(prompt):
            return "", whole[len(prompt) :]
        before = prompt.rstrip().removesuffix(_THOUGHT)
        if before != prompt and whole.startswith(before):
            return _THOUGHT_END, whole[len(before) :]
        return "", None


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
