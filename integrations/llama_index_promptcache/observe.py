"""Nodes that any retriever in this process returns, registered with an engine.

LlamaIndex's retrievers say what they return to the dispatchers of its instrumentation, before a
query engine goes on, and rerankers do. Synthesizers say which nodes they put into prompts, what
postprocessors made of them included. All of it reaches the root dispatcher, from every thread and
task, except from dispatchers that were told not to propagate. An index that is asked directly
(`vector_store.query`) says nothing.
"""

from __future__ import annotations

import inspect
from functools import cache
from threading import Lock
from typing import Any

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from llama_index_promptcache.documents import CachesDocuments, checked_llm, text_of
from promptcache.observing import Listeners, Observation


def observe_retrievers(llm: CachesDocuments) -> Observation:
    """Register the nodes of every retriever in this process with a model's engine.

        observe_retrievers(llm)

    From here on whatever a LlamaIndex retriever returns, in any query engine, thread or task, is
    recognised in prompts, and reused from the second prompt on that holds it; so is what a
    postprocessor puts in its place, when a synthesizer gets it. Nothing is encoded here. A node
    that cannot be registered is logged, and breaks no query.

    Lasts until the result is closed (a `with` block closes it) or the engine is gone; several
    models can observe at once. Raises OptionError for a model that is none of ours.
    """
    engine = checked_llm(llm).engine
    return _ears().listening().add(engine)


class _Ears:
    """The two handlers through which LlamaIndex is heard, and the engines that listen.

    The handlers stay when the last observation is closed, and do nothing then: a dispatcher goes
    through its list of handlers without a lock, so taking one out could cost another its turn.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._listeners = Listeners()
        self._of_events, self._of_spans = _OfEvents(self._listeners), _OfSpans(self._listeners)

    def listening(self) -> Listeners:
        """Who listens, once the root dispatcher has both handlers."""
        root = get_dispatcher()
        with self._lock:
            if not any(handler is self._of_events for handler in root.event_handlers):
                root.add_event_handler(self._of_events)
            if not any(handler is self._of_spans for handler in root.span_handlers):
                root.add_span_handler(self._of_spans)
        return self._listeners


class _OfEvents(BaseEventHandler):
    """Hears what retrievers and rerankers return."""

    _listeners: Listeners = PrivateAttr()

    def __init__(self, listeners: Listeners) -> None:
        super().__init__()
        self._listeners = listeners

    @classmethod
    def class_name(cls) -> str:
        return "PromptCacheEventHandler"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        if isinstance(event, RetrievalEndEvent | ReRankEndEvent):
            self._listeners.hear(event.nodes, text_of)


class _OfSpans(NullSpanHandler):
    """Hears which nodes a synthesizer is given."""

    _listeners: Listeners = PrivateAttr()

    def __init__(self, listeners: Listeners) -> None:
        super().__init__()
        self._listeners = listeners

    @classmethod
    def class_name(cls) -> str:
        return "PromptCacheSpanHandler"

    def span_enter(
        self,
        id_: str,
        bound_args: inspect.BoundArguments,
        instance: Any = None,
        parent_id: str | None = None,
        tags: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        if isinstance(instance, BaseSynthesizer) and "nodes" in bound_args.arguments:
            self._listeners.hear(bound_args.arguments["nodes"], text_of)


@cache
def _ears() -> _Ears:
    """The one pair of ears of this process, as there is one root dispatcher."""
    return _Ears()
