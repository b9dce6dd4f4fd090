"""PML, the markup of prompt modules: parsed, resolved into segments, written back, and linted.

    schema = parse_schema(markup)                   # or Schema(...), built in Python
    prompt = parse_prompt(markup)
    messages = resolve(schema, prompt, documents)   # what text/ and layout.py go on with
    markup = write(schema)                          # reads back as an equal value

Pure Python: knows nothing of tokens, models or templates.
"""

from promptcache.pml.parse import load_schema, parse_schema
from promptcache.pml.prompt import Argument, Document, Import, Prompt, Turn, parse_prompt
from promptcache.pml.resolve import find_schema, resolve
from promptcache.pml.schema import Scaffold, Schema
from promptcache.pml.tree import Collection, Module, Param, Role, Text, Union
from promptcache.pml.write import write

__all__ = [
    "Argument",
    "Collection",
    "Document",
    "Import",
    "Module",
    "Param",
    "Prompt",
    "Role",
    "Scaffold",
    "Schema",
    "Text",
    "Turn",
    "Union",
    "find_schema",
    "load_schema",
    "parse_prompt",
    "parse_schema",
    "resolve",
    "write",
]
