"""PMLPromptTemplate: a prompt template that says which parts of its prompts are modules.

Its prompts are ordinary messages to any model, and carry their PML for those of promptcache. Knows
no engine: how a prompt that carries PML is served stands in `pml_requests`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from langchain_core.messages import BaseMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import BasePromptTemplate
from pydantic import Field, SerializeAsAny, SkipValidation

from langchain_promptcache.templates.marked import Marked, MarkedRequest
from langchain_promptcache.templates.rendered import Rendered
from langchain_promptcache.templates.schema import DOCUMENT_VARIABLE
from langchain_promptcache.templates.translation import Request, Translation, translate
from promptcache.errors import PromptCacheError
from promptcache.pml import Schema, load_schema, parse_prompt, parse_schema, write

log = logging.getLogger("promptcache")

CARRIED = "promptcache_pml"
"""Where the first message of a prompt carries its PML, in `additional_kwargs`."""


class PMLPromptValue(PromptValue):
    """A prompt that carries its PML: the markup of schema and prompt, and documents by key."""

    plain: SerializeAsAny[PromptValue]
    """The prompt as any model takes it."""
    schema_markup: str
    prompt_markup: str
    documents: dict[str, str]

    @classmethod
    def of(cls, rendered: Rendered) -> Self:
        """The value of a rendered prompt."""
        return cls(
            plain=rendered.value,
            schema_markup=write(rendered.schema),
            prompt_markup=rendered.markup,
            documents=dict(rendered.documents),
        )

    def to_string(self) -> str:
        """The plain text, without PML."""
        return self.plain.to_string()

    def to_messages(self) -> list[BaseMessage]:
        """The plain messages, the first of which carries the PML beside its text."""
        first, *others = self.plain.to_messages()
        carried = {
            "schema": self.schema_markup,
            "prompt": self.prompt_markup,
            "documents": self.documents,
        }
        added = {**first.additional_kwargs, CARRIED: carried}
        return [first.model_copy(update={"additional_kwargs": added}), *others]


class PMLPromptTemplate(BasePromptTemplate[PromptValue]):
    """A prompt template whose prompts say which parts of them are modules.

        prompt = PMLPromptTemplate.from_pml(schema, '<prompt schema="trip">{question}</prompt>')
        prompt = PMLPromptTemplate.from_prompt(ChatPromptTemplate(...))
        chain = prompt | ChatPromptCache(model="pocket")

    A document variable takes a list of documents or texts. Where it is given one text, in which
    documents were joined before, the prompt goes without PML, and the model recognises what it
    knows; so it does where a prompt cannot be said in PML, which is logged.
    """

    source: Annotated[Translation | Marked, SkipValidation] = Field(exclude=True, repr=False)
    """A translated template, or PML with variables."""

    @classmethod
    def from_pml(
        cls,
        schema: str | Path | Schema,
        prompt: str,
        *,
        documents: Mapping[str, str] | None = None,
    ) -> Self:
        """A template from a schema (PML, its file, or a value) and a prompt for it with variables.

        `{name}` is a variable in the prompt's texts and arguments, and documents where it stands
        alone in a collection: `<notes>{notes}</notes>`. `documents` are those that the prompt
        itself names. Raises PMLError for markup that is not PML or does not fit the schema, and
        TemplateError for a brace that belongs to no variable and is not doubled.
        """
        if isinstance(schema, Path):
            schema = load_schema(schema)
        known = schema if isinstance(schema, Schema) else parse_schema(schema)
        marked = Marked(known, parse_prompt(prompt), documents or {})
        return cls(source=marked, input_variables=marked.input_variables)

    @classmethod
    def from_prompt(
        cls,
        prompt: BasePromptTemplate[Any],
        *,
        document_variables: Iterable[str] = (DOCUMENT_VARIABLE,),
        parameters: Mapping[str, int] | None = None,
        name: str | None = None,
    ) -> Self:
        """A template from one of LangChain's; takes and raises what `translate` does."""
        translation = translate(
            prompt, document_variables=document_variables, parameters=parameters, name=name
        )
        return cls(
            source=translation,
            input_variables=prompt.input_variables,
            optional_variables=prompt.optional_variables,
            input_types=prompt.input_types,
        )

    @property
    def pml(self) -> Schema:
        """The schema of its prompts."""
        return self.source.schema

    def format_prompt(self, **kwargs: Any) -> PromptValue:
        """The prompt, with its PML where it can be said in PML."""
        request = self.source.request(self._merge_partial_and_user_variables(**kwargs))
        return _with_pml(request, request.value())

    async def aformat_prompt(self, **kwargs: Any) -> PromptValue:
        """The same, with selectors of examples that wait."""
        request = self.source.request(self._merge_partial_and_user_variables(**kwargs))
        return _with_pml(request, await request.avalue())

    def format(self, **kwargs: Any) -> PromptValue:
        """The same as `format_prompt`."""
        return self.format_prompt(**kwargs)

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """A schema is PML, and is kept as such."""
        return False

    @property
    def _prompt_type(self) -> str:
        return "pml"


def _with_pml(request: Request | MarkedRequest, plain: PromptValue) -> PromptValue:
    if request.joined:
        return plain
    try:
        return PMLPromptValue.of(request.rendered(plain))
    except PromptCacheError as error:
        log.info("a prompt goes without PML: %s", error)
        return plain
