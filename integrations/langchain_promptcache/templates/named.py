"""`promptcache translate module:prompt`: a prompt template of LangChain's as PML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.pml_template import PMLPromptTemplate
from langchain_promptcache.templates.schema import DOCUMENT_VARIABLE
from langchain_promptcache.templates.translation import translate
from promptcache.errors import TemplateError, valid
from promptcache.pml import write


def markup_of(
    prompt: BasePromptTemplate[Any],
    name: str,
    *,
    document_variables: Sequence[str] = (),
    schema_name: str | None = None,
) -> str:
    """The PML of the schema of a template; `name` is what the user calls the template.

    Raises TemplateError where the template cannot be translated.
    """
    if isinstance(prompt, PMLPromptTemplate):
        return write(prompt.pml)
    wanted = document_variables or (DOCUMENT_VARIABLE,)
    schema = translate(prompt, document_variables=wanted, name=schema_name).schema
    if not schema.children:
        hint = valid("", prompt.input_variables, what="its variables")
        raise TemplateError(
            f"nothing of {name} can be imported: no message of fixed text stands before its first "
            f"variable, and none of its variables is {wanted[0]!r}; name the one for documents "
            f"with --documents{hint}"
        )
    return write(schema)
