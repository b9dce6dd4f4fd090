"""The cache that the running forward writes into: it knows what every query sees.

transformers hands an attention function keys, values and a mask. Where a mask would only say which
positions a query sees, the cache says it with less work: our mask builder gives none then, and our
attention asks the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol, runtime_checkable

from torch import Tensor


@runtime_checkable
class Attending(Protocol):
    """A cache that computes causal attention for the forward that it was aimed at."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scaling: float | None) -> Tensor:
        """Attention of `query` `[batch, heads, queries, dim]`, each query over what stands up to
        its own position.

        `key` and `value` are what the cache's layer gave the model. The result is
        `[batch, heads, queries, value_dim]`.
        """


_running: ContextVar[Attending | None] = ContextVar("promptcache_running", default=None)


def running() -> Attending | None:
    """The cache of the forward that runs in this thread, if it can attend."""
    return _running.get()


@contextmanager
def attended_by(cache: object) -> Iterator[None]:
    """Let `cache` compute the attention of the forwards inside the block, if it can."""
    token = _running.set(cache if isinstance(cache, Attending) else None)
    try:
        yield
    finally:
        _running.reset(token)
