"""LlamaIndex runs coroutines in event loops of its own, which it leaves open."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _loops_are_closed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Close the loop that a test without one of its own leaves behind."""
    yield
    if inspect.iscoroutinefunction(request.function):
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it makes one where there is none
            left = asyncio.get_event_loop_policy().get_event_loop()
    except RuntimeError:
        return
    if not left.is_running():
        left.close()
        asyncio.set_event_loop(None)
