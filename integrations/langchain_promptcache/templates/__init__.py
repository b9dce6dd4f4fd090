"""LangChain's prompt templates -> PML.

    schema = schema_from_prompt(prompt)
    print(write(schema))

A kind of template is a file: it turns its own form into `Turn`s of `parts`, and `schema` makes a
schema of those.
"""

from langchain_promptcache.templates.schema import DOCUMENT_VARIABLE, schema_from_prompt
from langchain_promptcache.templates.translation import Rendered, Translation, translate

__all__ = ["DOCUMENT_VARIABLE", "Rendered", "Translation", "schema_from_prompt", "translate"]
