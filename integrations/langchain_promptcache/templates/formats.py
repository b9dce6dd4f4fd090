"""The formats of text templates -> parts: f-strings, mustache, jinja2.

A template is parsed and never run. What is more than text and plain variables stays opaque.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any, Protocol

from jinja2 import nodes
from jinja2.sandbox import SandboxedEnvironment
from langchain_core.utils import mustache

from promptcache.templates import Fixed, Form, Opaque, Part, Variable

Values = Mapping[str, Any]
"""Partial variables and their values, and GIVEN for the variables that every prompt is given."""

GIVEN = object()
"""Stands above a partial variable further in, as the value that LangChain passes down does."""

_TAGS = {Form.ESCAPED: "variable", Form.RAW: "no escape"}


class Format(Protocol):
    """Turns a template's text into parts; `goes_on` says that more text follows it."""

    def __call__(self, template: str, values: Values, *, goes_on: bool = False) -> Iterator[Part]:
        """The parts in order. Variables among `values` that never change are fixed text."""


def said(value: object, form: Form) -> str:
    """The text that a template of this form makes of a variable's value."""
    if form in _TAGS:
        return mustache.render([(_TAGS[form], "value")], {"value": value})
    return f"{value}"


def _f_string(template: str, values: Values, *, goes_on: bool = False) -> Iterator[Part]:
    for literal, name, spec, conversion in Formatter().parse(template):
        if literal:
            yield Fixed(literal)
        if name is None:
            continue
        if spec or conversion:
            yield Opaque(f"the variable {name!r}, formatted")
        else:
            yield _variable(name, Form.PLAIN, values)


def _mustache(template: str, values: Values, *, goes_on: bool = False) -> Iterator[Part]:
    depth = 0
    for kind, key in mustache.tokenize(template):
        if kind in ("section", "inverted section"):
            if not depth:
                yield Opaque(f"the mustache section {key!r}")
            depth += 1
        elif kind == "end":
            depth -= 1
        elif depth:
            continue
        elif kind == "literal":
            yield Fixed(key)
        elif kind in _TAGS.values():
            if "." in key:
                yield Opaque(f"the mustache key {key!r}")
            else:
                form = Form.RAW if kind == "no escape" else Form.ESCAPED
                yield _variable(key, form, values)


def _jinja2(template: str, values: Values, *, goes_on: bool = False) -> Iterator[Part]:
    # jinja2 drops a line break at the very end of a template
    environment = SandboxedEnvironment(keep_trailing_newline=goes_on)
    for node in environment.parse(template).body:
        if isinstance(node, nodes.Output):
            yield from (_jinja2_output(item, values) for item in node.nodes)
        else:
            yield Opaque(f"a jinja2 statement ({type(node).__name__.lower()})")


def _jinja2_output(node: nodes.Expr, values: Values) -> Part:
    if isinstance(node, nodes.TemplateData):
        return Fixed(node.data)
    if isinstance(node, nodes.Const):
        return Fixed(str(node.value))
    if isinstance(node, nodes.Name):
        return _variable(node.name, Form.PLAIN, values)
    return Opaque(f"a jinja2 expression ({type(node).__name__.lower()})")


def _variable(name: str, form: Form, values: Values) -> Part:
    if isinstance(value := values.get(name), str | int | float):
        return Fixed(said(value, form))
    if values.get(name, GIVEN) is not GIVEN:
        return Opaque(f"the partial variable {name!r}, whose value is called for")
    return Variable(name, form)


FORMATS: Mapping[str, Format] = {"f-string": _f_string, "mustache": _mustache, "jinja2": _jinja2}
