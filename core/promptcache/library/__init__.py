"""Modules by what they are made of: looked up in the store, encoded when missing, once."""

from promptcache.library.keys import OWNER
from promptcache.library.library import ModuleLibrary, Record, Source
from promptcache.library.names import called

__all__ = ["OWNER", "ModuleLibrary", "Record", "Source", "called"]
