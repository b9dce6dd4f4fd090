"""Items of any iterable, so many at a time, none lost where it fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items, so many at a time; those before a failure come first, and then the failure."""
    chunk: list[T] = []
    failure: Exception | None = None
    try:
        for item in items:
            chunk.append(item)
            if len(chunk) == size:
                yield chunk
                chunk = []
    except Exception as error:
        failure = error
    if chunk:
        yield chunk
    if failure is not None:
        raise failure
