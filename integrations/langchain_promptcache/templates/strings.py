"""Templates of one text -> parts, few-shot prompts among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from langchain_core.prompts import (
    FewShotPromptTemplate,
    FewShotPromptWithTemplates,
    PromptTemplate,
)
from langchain_core.prompts.base import BasePromptTemplate

from langchain_promptcache.templates.formats import FORMATS, Values
from promptcache.errors import TemplateError
from promptcache.templates import (
    Chosen,
    Example,
    Fixed,
    Form,
    Opaque,
    Part,
    Variable,
)

BRACES = frozenset("{}")
"""What every format of template is written with."""


def parts_of(template: BasePromptTemplate[Any], outer: Values) -> Iterator[Part]:
    """The parts of a text template; `outer` are the partial variables of what it stands in.

    A value from outside stands above a partial variable of the template's own, as in LangChain.
    """
    values = {**template.partial_variables, **outer}
    if type(template) is PromptTemplate:
        yield from FORMATS[template.template_format](template.template, values)
    elif type(template) is FewShotPromptTemplate:
        yield from _few_shot(template, values)
    elif type(template) is FewShotPromptWithTemplates:
        yield from _few_shot_of_templates(template, values)
    else:
        yield Opaque(type(template).__name__)


def _few_shot(template: FewShotPromptTemplate, values: Values) -> Iterator[Part]:
    """LangChain joins prefix, examples and suffix, and applies their format to the whole."""
    parse, separator = FORMATS[template.template_format], template.example_separator
    examples = example_texts(template)
    if examples is None:
        yield from parse(template.prefix, values)
        yield _examples(template)
        yield from parse(template.suffix, values)
        return
    whole = [piece for piece in (template.prefix, *examples, template.suffix) if piece]
    parts = list(parse(separator.join(whole), values))
    before = template.prefix + separator if template.prefix else ""
    after = separator + template.suffix if template.suffix else ""
    apart = [
        *parse(before, values, goes_on=True),
        *_between(examples, separator),
        *parse(after, values),
    ]
    yield from apart if _as_one(apart) == _as_one(parts) else parts


def _few_shot_of_templates(template: FewShotPromptWithTemplates, values: Values) -> Iterator[Part]:
    """LangChain formats prefix and suffix, joins them, and applies a format to that once more."""
    separator, examples = template.example_separator, example_texts(template)
    before: list[Part] = []
    if template.prefix is not None:
        before += parts_of(template.prefix, _only(template.prefix, values))
        # what the prefix takes, the suffix is not given
        values = {n: v for n, v in values.items() if n not in template.prefix.input_variables}
    after = list(parts_of(template.suffix, _only(template.suffix, values)))
    fixed = [part.text for part in (*before, *after) if isinstance(part, Fixed)]
    texts = [*fixed, *(examples or ())]
    # jinja2 drops a line break at a template's end, and reads "\r" as another one
    is_changed = any(BRACES & set(text) for text in (*texts, separator)) or (
        template.template_format == "jinja2"
        and any("\r" in text or text.endswith("\n") for text in (*texts, separator + "."))
    )
    if is_changed:
        yield Opaque("a few-shot template whose text is changed when it is applied again")
        before, examples, after = [], [], [p for p in (*before, *after) if isinstance(p, Variable)]
    # A piece of variables alone may be empty, and then LangChain leaves out its separator too.
    begins, ends = (any(isinstance(p, Fixed) for p in parts) for parts in (before, after))
    if begins and (examples or (ends and examples is not None)):
        before.append(Fixed(separator))
    if ends and examples:
        after.insert(0, Fixed(separator))
    middle = [_examples(template)] if examples is None else [*_between(examples, separator)]
    for part in (*before, *middle, *after):
        yield Variable(part.name, Form.UNKNOWN) if isinstance(part, Variable) else part


def example_texts(
    template: FewShotPromptTemplate | FewShotPromptWithTemplates,
    examples: Sequence[dict[str, Any]] | None = None,
) -> list[str] | None:
    """The texts of its fixed examples, or of these; None where they differ between prompts."""
    examples = template.examples if examples is None else examples
    example_prompt = template.example_prompt
    if examples is None or any(map(callable, example_prompt.partial_variables.values())):
        return None
    names = example_prompt.input_variables
    for number, example in enumerate(examples, 1):
        if missing := [name for name in names if name not in example]:
            raise TemplateError(f"example {number} has no value for {missing[0]!r}")
    texts = (example_prompt.format(**{name: e[name] for name in names}) for e in examples)
    return [text for text in texts if text]


def _examples(template: FewShotPromptTemplate | FewShotPromptWithTemplates) -> Part:
    if template.example_selector is None:
        return Opaque("examples with partial variables that are called for")
    return Chosen(template.example_separator)


def _between(examples: Iterable[str], separator: str) -> Iterator[Part]:
    for number, example in enumerate(examples):
        if number:
            yield Fixed(separator)
        yield Example(example)


def _only(template: BasePromptTemplate[Any], values: Values) -> Values:
    """What a template is given by one that passes on nothing but its input variables."""
    return {name: values[name] for name in template.input_variables if name in values}


def _as_one(parts: Iterable[Part]) -> list[Part]:
    """The parts with examples as fixed text, and fixed texts that touch made one."""
    joined: list[Part] = []
    for part in parts:
        fixed = Fixed(part.text) if isinstance(part, Example) else part
        if isinstance(fixed, Fixed) and joined and isinstance(before := joined[-1], Fixed):
            joined[-1] = Fixed(before.text + fixed.text)
        elif not isinstance(fixed, Fixed) or fixed.text:
            joined.append(fixed)
    return joined
