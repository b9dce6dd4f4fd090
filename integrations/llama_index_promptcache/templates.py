"""LlamaIndex's prompt templates -> the schemas of the prompts they make.

A template renders itself, with marks in place of its values: so the text that every prompt has,
and the places of its documents, are read off what it writes, whatever kind of template it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms import LLM, ChatMessage, MockLLM
from llama_index.core.prompts import BasePromptTemplate, ChatPromptTemplate, LangchainPromptTemplate

from llama_index_promptcache.fields import DOCUMENT_VARIABLES
from llama_index_promptcache.marking import DIGITS, Marks, Render, chosen_by
from llama_index_promptcache.messages import to_engine
from promptcache.errors import TemplateError, kind_of, valid
from promptcache.pml import Schema
from promptcache.templates import (
    Fixed,
    Names,
    Opaque,
    Outline,
    Outliner,
    Part,
    Spoken,
    Turn,
    Variable,
    named,
    spoken_of,
)

T = TypeVar("T")

PER_REQUEST = frozenset({"query_str", "existing_answer"})
"""What LlamaIndex's synthesizers fill in with `partial_format` for each question. Other values
that are filled in so are the user's own, and the same in every prompt."""


def schema_from_prompt(
    prompt: BasePromptTemplate,
    llm: LLM | None = None,
    *,
    document_variables: Sequence[str] = DOCUMENT_VARIABLES,
    name: str | None = None,
) -> Schema:
    """The schema of the prompts that a template makes for an LLM; without one, for a chat model.

    The LLM's system prompt and output parser are part of it. `name` is the schema's. Raises
    TemplateError for a template without any of these variables, or whose prompts have no text in
    common that can be known beforehand.
    """
    teller = llm or MockLLM(is_chat_model=True)
    if isinstance(document_variables, str):
        document_variables = (document_variables,)

    def render(template: BasePromptTemplate, values: Mapping[str, Any]) -> list[ChatMessage]:
        return LLM._get_messages(teller, template, **values)

    return schema_of(prompt, render, teller, document_variables, name)


def schema_of(
    template: BasePromptTemplate,
    render: Render[Sequence[ChatMessage]],
    llm: BaseLLM,
    documents: Sequence[str],
    name: str | None = None,
) -> Schema:
    """The schema of the prompts that a template makes; `documents` are variables that hold some.

    Raises TemplateError as `schema_from_prompt` does.
    """
    names, documents = variables_of(template, llm, documents)

    def turns(digits: int) -> list[Turn]:
        marks = Marks(names, digits)
        return turns_of(spoken_of(to_engine(marks.rendered(template, llm, {}, render))), marks)

    outline = outline_of(_always(turns), documents)
    if not outline.documents:
        raise _no_documents(documents, names)
    return named(outline, name)


def text_before_documents(
    template: BasePromptTemplate, render: Render[str], llm: BaseLLM, documents: Sequence[str]
) -> tuple[str, bool]:
    """What a template's prompts in plain text begin with, up to documents or another value, and
    whether it is another value.

    Raises TemplateError as `schema_from_prompt` does.
    """
    names, documents = variables_of(template, llm, documents)

    def parts(digits: int) -> list[Part]:
        marks = Marks(names, digits)
        return list(marks.parts(marks.rendered(template, llm, {}, render)))

    before = ""
    found = _always(parts)
    if not any(_holds(part, documents) for part in found):
        raise _no_documents(documents, names)
    for part in found:
        if not isinstance(part, Fixed):
            return before, not _holds(part, documents)
        before += part.text
    raise AssertionError("one of the parts holds documents")


def variables_of(
    template: BasePromptTemplate,
    llm: BaseLLM,
    documents: Sequence[str],
    given: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """The variables whose values are not the same in every prompt, and those of documents.

    They are called as those who fill the template call them, which is by its own names only where
    these are `given`. Raises TemplateError for what is no template.
    """
    if not isinstance(template, BasePromptTemplate):
        raise TemplateError(
            f"the prompt is {kind_of(template)}; expected a prompt template of LlamaIndex's"
        )
    template = chosen_by(template, llm)
    mappings = template.template_var_mappings or {}
    outer = {own: name for name, own in mappings.items()}
    fixed = _filled_in(template).keys() - PER_REQUEST
    called = [(o, o if o in given else outer.get(o, o)) for o in template.template_vars]
    varying = [name for own, name in called if not fixed.intersection((own, name))]
    names = dict.fromkeys([*varying, *(template.function_mappings or {})])
    holding = [*documents, *(name for name, own in mappings.items() if own in documents)]
    return list(names), holding


def up_to_documents(
    template: BasePromptTemplate, llm: BaseLLM, documents: Sequence[str]
) -> BasePromptTemplate:
    """A chat template without the messages behind its documents, which say nothing of a schema;
    any other template as it is.
    """
    chosen = chosen_by(template, llm)
    if type(chosen) is not ChatPromptTemplate or chosen.output_parser is not None:
        return template
    messages = chosen.message_templates
    holding = [n for n, m in enumerate(messages) if {*m.get_template_vars()} & {*documents}]
    if not holding:
        return template
    return chosen.model_copy(update={"message_templates": messages[: holding[-1] + 1]})


def turns_of(messages: Iterable[Spoken], marks: Marks) -> list[Turn]:
    """Marked messages as turns."""
    return [Turn(role, tuple(marks.parts(text))) for role, text in messages]


def outline_of(turns: Sequence[Turn], documents: Sequence[str]) -> Outline:
    """The outline of a template's turns, with a collection for each document variable there.

    What comes after the last of them is each prompt's own: text there is computed with all
    documents in view, and the turns of a conversation differ. Raises TemplateError where prompts
    differ in a message before the one with the first documents, or where an assistant has spoken
    before it, as conversations have it: documents would have another beginning in every prompt.
    """
    firsts: dict[str, tuple[int, int]] = {}
    for number, turn in enumerate(turns):
        for place, part in enumerate(turn.parts):
            if isinstance(part, Variable) and part.name in documents:
                firsts.setdefault(part.name, (number, place))
    first, _ = min(firsts.values(), default=(-1, -1))
    last, end = max(firsts.values(), default=(-1, -1))
    own = Opaque("what follows the documents")
    outliner = Outliner(documents, {}, Names())
    for number, turn in enumerate(turns):
        if number == first and outliner.cut_at:
            raise _no_beginning(outliner.cut_at[1])
        if number < first and turn.role == "assistant":
            raise _no_beginning(Opaque("an answer of the assistant's"))
        shared = turn.parts[: end + 1] if number == last else ()
        outliner.add(turn if number < last else Turn(turn.role, (*shared, own)))
    return outliner.finished()


def _filled_in(template: BasePromptTemplate) -> Mapping[str, Any]:
    """The values that a template was given beforehand."""
    if isinstance(template, LangchainPromptTemplate):  # it keeps them where LangChain does
        partial: Mapping[str, Any] = template.selector.default_prompt.partial_variables
        return partial
    return template.kwargs


def _always(marked: Callable[[int], T]) -> T:
    """What comes of marks with so many digits, and of longer ones as well."""
    found = marked(DIGITS)
    if found != marked(2 * DIGITS):
        raise TemplateError(
            "what the template writes depends on what its values are, so its prompts have no text "
            "in common that is known beforehand; cache documents without a prompt, and they are "
            "encoded after what the first prompt shows"
        )
    return found


def _holds(part: Part, documents: Sequence[str]) -> bool:
    return isinstance(part, Variable) and part.name in documents


def _no_beginning(part: Part) -> TemplateError:
    what = part.what if isinstance(part, Opaque) else "an empty text"
    what = f"the variable {part.name!r}" if isinstance(part, Variable) else what
    return TemplateError(
        f"{what} stands in a message before that of the documents, "
        "so they have another beginning in every prompt: give a variable a value with "
        "template.partial_format(...), or cache documents without a prompt, and they are encoded "
        "after what the first prompt shows"
    )


def _no_documents(wanted: Sequence[str], names: Sequence[str]) -> TemplateError:
    hint = valid("".join(wanted[:1]), names, what="variables")
    return TemplateError(
        f"the template has no variable {' or '.join(map(repr, wanted))} for documents; name "
        f"another with document_variables=... of the model{hint}"
    )
