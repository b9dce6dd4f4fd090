"""Templates of one text -> parts. Each format is a function; formats without one stay opaque."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from string import Formatter
from typing import Any

from langchain_core.prompts import PromptTemplate
from langchain_core.prompts.base import BasePromptTemplate

from langchain_promptcache.templates.parts import Fixed, Opaque, Part, Variable

Values = Mapping[str, Any]
"""Partial variables and their values."""


def parts_of(template: BasePromptTemplate[Any], outer: Values) -> Iterator[Part]:
    """The parts of a text template; `outer` are the partial variables of what it stands in."""
    if type(template) is not PromptTemplate:
        yield Opaque(type(template).__name__)
    elif template.template_format not in FORMATS:
        yield Opaque(f"a {template.template_format} template")
    else:
        translate = FORMATS[template.template_format]
        yield from translate(template.template, {**outer, **template.partial_variables})


def _f_string(template: str, values: Values) -> Iterator[Part]:
    for literal, name, spec, conversion in Formatter().parse(template):
        if literal:
            yield Fixed(literal)
        if name is None:
            continue
        if spec or conversion:
            yield Opaque(f"the variable {name!r}, formatted")
        elif isinstance(values.get(name), str | int | float):
            yield Fixed(str(values[name]))
        else:  # a variable, or a partial one whose value is called for anew in every prompt
            yield Variable(name)


FORMATS: Mapping[str, Callable[[str, Values], Iterator[Part]]] = {"f-string": _f_string}
