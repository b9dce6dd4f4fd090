"""When memory runs out: modules that may go make room, once, and then it is a clear error.

Where no request waits, none has to go.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

from promptcache.errors import OutOfMemoryError
from promptcache.store import Store

T = TypeVar("T")


def surviving_out_of_memory(attempt: Callable[[], T], store: Store, what: str) -> T:
    """The attempt's result; when memory runs out, evict every module that may go and try again.

    Raises OutOfMemoryError, which says `what` there was no memory for, when that does not help.
    """
    try:
        return attempt()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    freed = store.evict()
    try:
        return attempt()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"no memory for {what}, not even after evicting {freed:,} bytes of modules"
        ) from error


def giving_up_out_of_memory(attempt: Callable[[], T], what: str) -> T:
    """The attempt's result, where nothing that is there has to make room for it.

    Raises OutOfMemoryError, which says `what` there was no memory for.
    """
    try:
        return attempt()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(
            f"no memory for {what}; no modules were evicted to make room for it"
        ) from error


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch says that there is no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
