"""`module:template`: a prompt template of any framework by the name of its module.

Knows frameworks by their names only, and imports none.
"""

from __future__ import annotations

import sys
from importlib import import_module
from operator import attrgetter
from pathlib import Path

from promptcache.errors import OptionError, TemplateError, kind_of, valid

TEMPLATE = "BasePromptTemplate"
"""What LangChain and LlamaIndex both call the class of all their templates."""
FRAMEWORKS = {"langchain_core": "langchain", "llama_index": "llama-index"}
"""The packages that have this class, and the extras for them."""


def template_of(name: str) -> object:
    """The template that stands in a module, as `module:template`.

    Modules are looked for in the present folder too. Raises OptionError where there is no such
    module or nothing of this name in it.
    """
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
        found: object = attrgetter(attribute)(module)
    except AttributeError:
        templates = [n for n, value in vars(module).items() if _packages(value)]
        hint = valid(attribute, templates, what="its templates")
        raise OptionError(f"the module {module_name!r} has no {attribute!r}{hint}") from None
    return found


def extra_for(template: object, name: str) -> str:
    """The extra of promptcache that serves this template's framework.

    Raises TemplateError for what is no template.
    """
    for package in _packages(template):
        return FRAMEWORKS[package]
    raise TemplateError(
        f"{name} is {kind_of(template)}; expected a prompt template of LangChain's or "
        "LlamaIndex's, or a function with @schema"
    )


def _packages(value: object) -> list[str]:
    """The packages of frameworks whose templates this is one of."""
    kinds = [kind for kind in type(value).__mro__ if kind.__name__ == TEMPLATE]
    packages = [kind.__module__.partition(".")[0] for kind in kinds]
    return [package for package in packages if package in FRAMEWORKS]
