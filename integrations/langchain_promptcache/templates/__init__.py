"""LangChain's prompt templates -> PML.

    schema = schema_from_prompt(prompt)
    print(write(schema))

    translate(prompt).render({"context": documents, "input": question}).markup

What is known of a template: `formats`, `strings` and `chat` turn each form of template into the
`Turn`s of `promptcache.templates`, of which `schema` has a schema made there. What is known of one
prompt: LangChain renders it, and `translation` has that cut there into what it imports of the
schema and its own text. `marked` is the other way about, from PML with variables to messages.
"""

from langchain_promptcache.templates.schema import DOCUMENT_VARIABLE, schema_from_prompt
from langchain_promptcache.templates.translation import translate

__all__ = ["DOCUMENT_VARIABLE", "schema_from_prompt", "translate"]
