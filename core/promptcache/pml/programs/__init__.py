"""Prompt programs: schemas written as Python functions (Gim et al., section 3.2.4)."""

from promptcache.pml.programs.program import Program, role, schema
from promptcache.pml.programs.source import Length

__all__ = ["Length", "Program", "role", "schema"]
