"""Prompt templates of any framework -> the schema and the prompts that they make.

A framework's own package turns each template into `Turn`s (`parts`), of which `Outliner` makes a
schema; what the framework then renders, `align` cuts into imports of that schema and own text.
"""

from promptcache.templates.align import Filling, align
from promptcache.templates.beginning import whole_sentences
from promptcache.templates.naming import Names
from promptcache.templates.outline import Outline, Outliner, named, with_parameters
from promptcache.templates.parts import (
    Chosen,
    Example,
    Exchange,
    Fixed,
    Form,
    Opaque,
    Part,
    Spoken,
    Turn,
    Variable,
)
from promptcache.templates.search import Region
from promptcache.templates.spoken import spoken_of

__all__ = [
    "Chosen",
    "Example",
    "Exchange",
    "Filling",
    "Fixed",
    "Form",
    "Names",
    "Opaque",
    "Outline",
    "Outliner",
    "Part",
    "Region",
    "Spoken",
    "Turn",
    "Variable",
    "align",
    "named",
    "spoken_of",
    "whole_sentences",
    "with_parameters",
]
