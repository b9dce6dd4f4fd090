"""What a synthesizer that refines keeps from its prompt helper: its question, its first template.

It asks for room before it fills in the question, for the one of its templates whose plain text is
the longest, and sends its first prompt in the other without a further look. But what it is asked
reaches the root dispatcher of LlamaIndex's instrumentation, in the same thread or task.
"""

from __future__ import annotations

import inspect
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.response_synthesizers import Refine
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr


@dataclass(frozen=True, slots=True)
class Refining:
    """The templates of an answer that is being refined, with the question in them."""

    first: BasePromptTemplate
    later: BasePromptTemplate


def listen() -> None:
    """Hear of such answers from here on; once is enough."""
    _ears().listen()


def refining() -> Refining | None:
    """The answer that is being refined in this thread or task, if one is."""
    return _ears().running


class _Ears:
    """The handler that hears of them, which stays: taking one out is not safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._handler = _OfSpans()

    @property
    def running(self) -> Refining | None:
        return self._handler.running

    def listen(self) -> None:
        root = get_dispatcher()
        with self._lock:
            if not any(handler is self._handler for handler in root.span_handlers):
                root.add_span_handler(self._handler)


def _no_one() -> ContextVar[tuple[str, Refining] | None]:
    return ContextVar("refining", default=None)


class _OfSpans(NullSpanHandler):
    """Hears what a synthesizer is asked, and when it is done."""

    _running: ContextVar[tuple[str, Refining] | None] = PrivateAttr(default_factory=_no_one)

    @classmethod
    def class_name(cls) -> str:
        return "PromptCacheRefineHandler"

    @property
    def running(self) -> Refining | None:
        found = self._running.get()
        return found[1] if found else None

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        question = bound_args.arguments.get("query_str")
        if isinstance(instance, Refine) and isinstance(question, str):
            prompts = instance.get_prompts()
            first, later = (
                prompts[name].partial_format(query_str=question)
                for name in ("text_qa_template", "refine_template")
            )
            self._running.set((id_, Refining(first, later)))

    def span_exit(self, id_: str, *_: Any, **__: Any) -> None:
        self._done(id_)

    def span_drop(self, id_: str, *_: Any, **__: Any) -> None:
        self._done(id_)

    def _done(self, id_: str) -> None:
        found = self._running.get()
        if found and found[0] == id_:
            self._running.set(None)


@cache
def _ears() -> _Ears:
    """The one pair of ears of this process, as there is one root dispatcher."""
    return _Ears()
