"""Nodes that any retriever in this process returns, registered with an engine.

LlamaIndex's retrievers say what they return to the dispatchers of its instrumentation, before a
query engine goes on, and rerankers do. Synthesizers say which nodes they put into prompts, what
postprocessors made of them included. All of it reaches the root dispatcher, from every thread and
task, except from dispatchers that were told not to propagate. An index that is asked directly
(`vector_store.query`) says nothing.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Sequence
from functools import cache
from threading import Lock
from types import TracebackType
from typing import Any, Self
from weakref import ref

from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent
from llama_index.core.instrumentation.events.retrieval import RetrievalEndEvent
from llama_index.core.instrumentation.span_handlers import NullSpanHandler
from llama_index.core.response_synthesizers import BaseSynthesizer
from llama_index.core.schema import NodeWithScore
from llama_index_instrumentation import get_dispatcher
from pydantic import PrivateAttr

from llama_index_promptcache.documents import CachesDocuments, checked_llm, text_of
from promptcache import PromptCache

log = logging.getLogger("promptcache")


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
    ears = _ears()
    observation = Observation(checked_llm(llm).engine, ears)
    ears.add(observation)
    return observation


class Observation:
    """That an engine hears of what retrievers return, until `close()`."""

    def __init__(self, engine: PromptCache, ears: _Ears) -> None:
        self._engine = ref(engine)
        self._ears = ears

    @property
    def engine(self) -> PromptCache | None:
        """Where the nodes go; None once nothing else uses that engine."""
        return self._engine()

    def close(self) -> None:
        """Stop; what was registered stays. Closing twice does nothing."""
        self._ears.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Ears:
    """Everyone who observes, and the two handlers through which LlamaIndex is heard.

    The handlers stay when the last observation is closed, and do nothing then: a dispatcher goes
    through its list of handlers without a lock, so taking one out could cost another its turn.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._observations: tuple[Observation, ...] = ()
        self._of_events, self._of_spans = _OfEvents(self), _OfSpans(self)

    def add(self, observation: Observation) -> None:
        root = get_dispatcher()
        with self._lock:
            alive = (other for other in self._observations if other.engine is not None)
            self._observations = (*alive, observation)
            if not any(handler is self._of_events for handler in root.event_handlers):
                root.add_event_handler(self._of_events)
            if not any(handler is self._of_spans for handler in root.span_handlers):
                root.add_span_handler(self._of_spans)

    def remove(self, observation: Observation) -> None:
        with self._lock:
            others = (other for other in self._observations if other is not observation)
            self._observations = tuple(others)

    def hear(self, nodes: Sequence[NodeWithScore]) -> None:
        """Give the nodes to every engine that observes, each once."""
        engines = {id(engine): engine for o in self._observations if (engine := o.engine)}
        for engine in engines.values():
            for node in nodes:
                _register(engine, node)


class _OfEvents(BaseEventHandler):
    """Hears what retrievers and rerankers return."""

    _ears: _Ears = PrivateAttr()

    def __init__(self, ears: _Ears) -> None:
        super().__init__()
        self._ears = ears

    @classmethod
    def class_name(cls) -> str:
        return "PromptCacheEventHandler"

    def handle(self, event: BaseEvent, **_: Any) -> None:
        if isinstance(event, RetrievalEndEvent | ReRankEndEvent):
            self._ears.hear(event.nodes)


class _OfSpans(NullSpanHandler):
    """Hears which nodes a synthesizer is given."""

    _ears: _Ears = PrivateAttr()

    def __init__(self, ears: _Ears) -> None:
        super().__init__()
        self._ears = ears

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
            self._ears.hear(bound_args.arguments["nodes"])


def _register(engine: PromptCache, node: NodeWithScore) -> None:
    try:
        engine.cache_documents([text_of(node)], progress=False)
    except Exception:  # whatever it is, the query that retrieves is not to blame
        log.warning("a retrieved node was not registered: %.80r", node, exc_info=True)


@cache
def _ears() -> _Ears:
    """The one pair of ears of this process, as there is one root dispatcher."""
    return _Ears()
