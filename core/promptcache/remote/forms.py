"""Texts and documents in the form that a server reads, and its counts added up."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from promptcache.cached import CachedDocuments
from promptcache.errors import OptionError
from promptcache.prompts import Frame, FramedText

AT_ONCE = 64
"""Documents that one request hands over."""


def parts_of(text: FramedText) -> object:
    """A text, or its parts, as the server reads them."""
    if isinstance(text, str):
        return text
    return [{"frame": part.text} if isinstance(part, Frame) else part for part in text]


def context_of(context: object) -> str:
    """What documents are encoded after. Raises OptionError for what has no name."""
    if not isinstance(context, str):
        raise OptionError(
            f"context={context!r:.80} cannot be asked of a server; give 'preamble' or 'expected'"
        )
    return context


def portions(documents: Iterable[str] | Mapping[str, str]) -> Iterator[Any]:
    """The documents, some at a time: as lists, or as dicts where they have names."""
    if isinstance(documents, Mapping):
        pairs = iter(documents.items())
        while named := dict(islice(pairs, AT_ONCE)):
            yield named
        return
    texts = iter(documents)
    while some := list(islice(texts, AT_ONCE)):
        yield some


def added(done: CachedDocuments, said: Mapping[str, Any]) -> CachedDocuments:
    """What was done so far, and what the server did now."""
    names = [name for name in CachedDocuments.__slots__ if name != "keys"]
    counts = {name: getattr(done, name) + said[name] for name in names}
    return CachedDocuments(keys=(*done.keys, *said["keys"]), **counts)
