"""`promptcache translate module:prompt`: a prompt template by the name of its module, as PML."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.pml_template import PMLPromptTemplate
from langchain_promptcache.templates.translation import translate
from promptcache.errors import OptionError, TemplateError, valid
from promptcache.pml import write


def markup_of(
    name: str, *, document_variables: Iterable[str], schema_name: str | None = None
) -> str:
    """The PML of the schema of a template that stands in a module, as `module:prompt`.

    Modules are looked for in the present folder too. Raises OptionError where there is no such
    module or template, and TemplateError where the template cannot be translated.
    """
    prompt = _found(name)
    if isinstance(prompt, PMLPromptTemplate):
        return write(prompt.pml)
    if not isinstance(prompt, BasePromptTemplate):
        raise TemplateError(
            f"{name} is a {type(prompt).__name__}; expected a prompt template of LangChain's"
        )
    wanted = tuple(document_variables)
    schema = translate(prompt, document_variables=wanted, name=schema_name).schema
    if not schema.children:
        hint = valid("", prompt.input_variables, what="its variables")
        raise TemplateError(
            f"nothing of {name} can be imported: no message of fixed text stands before its first "
            f"variable, and none of its variables is {wanted[0]!r}; name the one for documents "
            f"with --documents{hint}"
        )
    return write(schema)


def _found(name: str) -> Any:
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        raise OptionError(
            f"{name!r} names no template; expected module:prompt, as in app.chain:rag"
        )
    if module_name.endswith(".py") or "/" in module_name:
        raise OptionError(f"{name!r} names a file; expected module:prompt, as in app.chain:rag")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise OptionError(f"the module {module_name!r} cannot be imported: {error}") from None
    try:
        return attrgetter(attribute)(module)
    except AttributeError:
        templates = [n for n, v in vars(module).items() if isinstance(v, BasePromptTemplate)]
        hint = valid(attribute, templates, what="its templates")
        raise OptionError(f"the module {module_name!r} has no {attribute!r}{hint}") from None
