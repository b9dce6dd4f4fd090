"""Marks in place of a template's values, found again in what the template writes.

Knows what LlamaIndex's templates are made of, and nothing of schemas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from random import randrange
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate

from promptcache.errors import TemplateError
from promptcache.templates import Fixed, Opaque, Part, Variable

T = TypeVar("T")
Render = Callable[[BasePromptTemplate, Mapping[str, Any]], T]
"""Fills a template with values, as an LLM does it."""

_OPEN, _CLOSE = "\U0010e5a0", "\U0010e5a1"  # private use; no text has them but by intent
_MARK = re.compile(f"({_OPEN}[0-9.]+{_CLOSE})")
_PART = re.compile(f"{_OPEN}|{_CLOSE}")
DIGITS = 12
"""How long the number is that all marks of a rendering have in them."""


class Marks:
    """A mark for each of several names; no two objects have the same."""

    def __init__(self, names: Sequence[str], digits: int = DIGITS) -> None:
        self._key = str(randrange(10 ** (digits - 1), 10**digits))
        self._marks = {name: f"{_OPEN}{self._key}.{n}{_CLOSE}" for n, name in enumerate(names)}
        self._names = {mark: name for name, mark in self._marks.items()}

    @property
    def all(self) -> list[str]:
        """The marks, in the order of their names."""
        return list(self._marks.values())

    def rendered(
        self,
        template: BasePromptTemplate,
        llm: BaseLLM,
        given: Mapping[str, Any],
        render: Render[T],
    ) -> T:
        """What the template makes of the marks, and of what else is given. It calls no functions.

        Raises TemplateError where it cannot do with marks.
        """

        def silent(chosen: BasePromptTemplate) -> BasePromptTemplate:
            functions = {
                name: _constant(self._marks.get(name, given.get(name, "")))
                for name in chosen.function_mappings or {}
            }
            return chosen.model_copy(update={"function_mappings": functions})

        try:
            return render(changed(template, llm, silent), {**given, **self._marks})
        except Exception as error:  # whatever a template does with text in place of its values
            raise TemplateError(
                f"the template cannot be made with text for its values ({error}); cache documents "
                "without a prompt, and they are encoded after what the first prompt shows"
            ) from error

    def parts(self, text: str) -> Iterator[Part]:
        """A text that the template made, as fixed text and variables."""
        for piece in _MARK.split(text):
            if name := self._names.get(piece):
                yield Variable(name)
                continue
            before = _PART.split(piece)[0]
            escaped = self._key in before  # and who knows where the rest of the mark begins
            if before and not escaped:
                yield Fixed(before)
            if escaped or before != piece:
                yield Opaque("a value that the template changes")


def chosen_by(template: BasePromptTemplate, llm: BaseLLM) -> BasePromptTemplate:
    """The template that a selector chooses for an LLM; any other as it is."""
    while isinstance(template, SelectorPromptTemplate):
        template = template.select(llm)
    return template


def listening(
    template: BasePromptTemplate, llm: BaseLLM
) -> tuple[BasePromptTemplate, dict[str, object]]:
    """The template, and what its functions give once it has been rendered, by variable."""
    results: dict[str, object] = {}
    if not chosen_by(template, llm).function_mappings:
        return template, results

    def heard(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def call(**values: Any) -> object:
            results[name] = function(**values)
            return results[name]

        return call

    def attentive(chosen: BasePromptTemplate) -> BasePromptTemplate:
        functions = {n: heard(n, f) for n, f in (chosen.function_mappings or {}).items()}
        return chosen.model_copy(update={"function_mappings": functions})

    return changed(template, llm, attentive), results


def changed(
    template: BasePromptTemplate,
    llm: BaseLLM,
    change: Callable[[BasePromptTemplate], BasePromptTemplate],
) -> BasePromptTemplate:
    """A copy of the template with that changed which it selects for an LLM."""
    if not isinstance(template, SelectorPromptTemplate):
        return change(template)
    chosen = changed(template.select(llm), llm, change)
    copy = template.model_copy()
    # Not as a field: a user's own selector may choose by other means than the fields.
    copy.__dict__["select"] = lambda llm=None: chosen
    return copy


def _constant(value: object) -> Callable[..., object]:
    return lambda **_: value
