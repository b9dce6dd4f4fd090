"""A prompt template, translated: its schema, and for each set of variables its prompt in PML.

LangChain renders each prompt itself, once, so partial variables are called and selectors asked as
often as without PML; what it rendered is then cut at the schema's modules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.messages import to_engine
from langchain_promptcache.templates.formats import said
from langchain_promptcache.templates.rendered import Rendered
from langchain_promptcache.templates.schema import DOCUMENT_VARIABLE, outline_of
from langchain_promptcache.templates.selectors import Selected, listening
from langchain_promptcache.templates.values import texts_given
from promptcache.errors import PromptError, TemplateError
from promptcache.pml import Collection, Schema
from promptcache.pml.tree import walk
from promptcache.templates import Filling, Outline, Region, align, named, spoken_of


@dataclass(frozen=True, slots=True)
class Translation:
    """A template's schema and outline; `translate` makes it."""

    template: BasePromptTemplate[Any]
    schema: Schema
    outline: Outline

    def render(self, variables: Mapping[str, Any]) -> Rendered:
        """The prompt for these variables: as PML, and as the messages that LangChain makes of it.

        A document variable takes documents or texts, which are joined by the collection's
        separator; a single text stands as it is and is no document.

        Raises PromptError for a variable without a value, or for messages that PML cannot hold
        (images, calls of tools), and TemplateError where a value that the template was translated
        with is another one now.
        """
        if missing := sorted(set(self.template.input_variables) - variables.keys()):
            raise PromptError(f"the prompt needs a value for {', '.join(map(repr, missing))}")
        request = self.request(variables)
        return request.rendered(request.value())

    def request(self, variables: Mapping[str, Any]) -> Request:
        """What is to be rendered, before it is."""
        values, regions = dict(variables), dict[str, Region]()
        collections = {c.name: c for c in walk(self.schema.children) if isinstance(c, Collection)}
        for name, variable in self.outline.documents.items():
            given = values.get(variable.name, "")
            texts = None if isinstance(given, str) else texts_given(given, variable.name)
            if texts is not None:
                values[variable.name] = given = collections[name].separator.join(texts)
            stripped = tuple(text.strip() for text in texts or () if text.strip())
            regions[name] = Region(stripped, said(given, variable.form))
        arguments = {
            place: said(values[variable.name], variable.form)
            for place, variable in self.outline.parameters.items()
            if variable.name in values
        }
        selected: list[Selected] = []
        template = listening(self.template, selected)
        joined = any(
            isinstance(variables.get(v.name), str) for v in self.outline.documents.values()
        )
        return Request(self, template, values, regions, arguments, selected, joined)


@dataclass(frozen=True, slots=True)
class Request:
    """One rendering of a template by LangChain, with the selectors' choices written down."""

    translation: Translation
    template: BasePromptTemplate[Any]
    values: Mapping[str, Any]
    regions: Mapping[str, Region]
    arguments: Mapping[tuple[str, str], str]
    selected: list[Selected]
    joined: bool
    """Whether documents came as one text, in which they are for the engine to recognise."""

    def value(self) -> PromptValue:
        """What LangChain makes of the template."""
        return self.template.format_prompt(**self.values)

    async def avalue(self) -> PromptValue:
        """The same, with selectors that wait."""
        return await self.template.aformat_prompt(**self.values)

    def rendered(self, value: PromptValue) -> Rendered:
        """The prompt in PML that says the same. Raises as `Translation.render` does."""
        outline = self.translation.outline
        if missing := [place[1] for place in outline.parameters if place not in self.arguments]:
            raise TemplateError(f"the parameter {missing[0]!r} has no value of the prompt's own")
        regions = dict(self.regions)
        for name, chosen in zip(outline.examples, self.selected, strict=False):
            texts = tuple(text.strip() for text in chosen.texts if text.strip())
            regions[name] = Region(texts, chosen.joined)
        for name in outline.examples:
            regions.setdefault(name, Region((), ""))
        schema = self.translation.schema
        filling = Filling(regions, self.arguments)
        spoken = list(spoken_of(to_engine(value.to_messages())))
        prompt, documents = align(schema, outline, spoken, filling)
        return Rendered(schema, prompt, documents, value)


def translate(
    prompt: BasePromptTemplate[Any],
    *,
    document_variables: Iterable[str] = (DOCUMENT_VARIABLE,),
    parameters: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Translation:
    """Translate a prompt template of LangChain's to PML.

    Each of `document_variables` that the template has becomes a collection. `parameters` are
    short variables with their greatest length in tokens; the fixed text around each becomes a
    module with a parameter, which is then not part of the preamble. Other variables, and what
    PML has no word for, are computed text. `name` is the schema's.

    Raises TemplateError for a prompt of another kind, a role that PML has not, or a parameter
    or document variable that the template does not have (but for the usual one).
    """
    if isinstance(document_variables, str):
        document_variables = (document_variables,)
    outline = outline_of(prompt, document_variables, parameters or {})
    return Translation(prompt, named(outline, name), outline)
