"""`promptcache translate module:prompt`: a prompt template of LlamaIndex's as PML."""

from __future__ import annotations

from collections.abc import Sequence

from llama_index.core.prompts import BasePromptTemplate

from llama_index_promptcache.fields import DOCUMENT_VARIABLES
from llama_index_promptcache.templates import schema_from_prompt
from promptcache.errors import TemplateError
from promptcache.pml import write


def markup_of(
    prompt: BasePromptTemplate,
    name: str,
    *,
    document_variables: Sequence[str] = (),
    schema_name: str | None = None,
) -> str:
    """The PML of the schema of a template's prompts for a chat model.

    `name` is what the user calls the template. Raises TemplateError where it has no schema.
    """
    variables = document_variables or DOCUMENT_VARIABLES
    try:
        schema = schema_from_prompt(prompt, document_variables=variables, name=schema_name)
    except TemplateError as error:
        raise TemplateError(f"{name}: {error}") from error
    return write(schema)
