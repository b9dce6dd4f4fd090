"""Documents that any retriever in this process returns, registered with an engine.

LangChain lets a handler join every run through a configure hook, and tells it what each retriever
returned before the chain goes on. Only retrievers say so: a vector store or a function that is
asked directly does not.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from threading import Lock
from types import TracebackType
from typing import Any, Self
from weakref import ref

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.tracers.context import register_configure_hook

from langchain_promptcache.caching import DocumentCaching
from langchain_promptcache.documents import text_of
from langchain_promptcache.intake import checked_llm
from promptcache import PromptCache

log = logging.getLogger("promptcache")


def observe_retrievers(llm: DocumentCaching) -> Observation:
    """Register the documents of every retriever in this process with a model's engine.

        observe_retrievers(llm)

    From here on whatever a LangChain retriever returns, in any chain, thread or task, is
    recognised in prompts, and reused from the second prompt on that holds it. Nothing is encoded
    by the retriever's call. A document that cannot be registered is logged, and breaks no chain.

    Lasts until the result is closed (a `with` block closes it) or the engine is gone; several
    models can observe at once. Raises OptionError for a model that is none of ours.
    """
    ear = _ear()  # asked once: two threads' first calls may each make one
    observation = Observation(checked_llm(llm).engine, ear)
    ear.add(observation)
    return observation


class Observation:
    """That an engine hears of what retrievers return, until `close()`."""

    def __init__(self, engine: PromptCache, ear: _Ear) -> None:
        self._engine = ref(engine)
        self._ear = ear

    @property
    def engine(self) -> PromptCache | None:
        """Where the documents go; None once nothing else uses that engine."""
        return self._engine()

    def close(self) -> None:
        """Stop; what was registered stays. Closing twice does nothing."""
        self._ear.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Ear(BaseCallbackHandler):
    """Hears what retrievers return, and nothing else of a run."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._observations: tuple[Observation, ...] = ()

    def add(self, observation: Observation) -> None:
        with self._lock:
            alive = (other for other in self._observations if other.engine is not None)
            self._observations = (*alive, observation)

    def remove(self, observation: Observation) -> None:
        with self._lock:
            others = (other for other in self._observations if other is not observation)
            self._observations = tuple(others)

    def on_retriever_end(self, documents: Sequence[Document], **_: Any) -> None:
        """Give the documents to every engine that observes, each once."""
        engines = {id(engine): engine for o in self._observations if (engine := o.engine)}
        for engine in engines.values():
            for document in documents:
                _register(engine, document)

    @property
    def ignore_retriever(self) -> bool:
        return not self._observations

    @property
    def ignore_llm(self) -> bool:
        return True

    @property
    def ignore_chat_model(self) -> bool:
        return True

    @property
    def ignore_chain(self) -> bool:
        return True

    @property
    def ignore_agent(self) -> bool:
        return True

    @property
    def ignore_retry(self) -> bool:
        return True

    @property
    def ignore_custom_event(self) -> bool:
        return True


def _register(engine: PromptCache, document: Document) -> None:
    try:
        engine.cache_documents([text_of(document)], progress=False)
    except Exception:  # whatever it is, the chain that retrieves is not to blame
        log.warning("a retriever's document was not registered: %.80r", document, exc_info=True)


@cache
def _ear() -> _Ear:
    """The one ear of this process: LangChain has no way to take a hook back.

    As the variable's default it is there in every context, those of threads that were started
    without a copy of another's included; a value that is set would reach copies only.
    """
    ear = _Ear()
    heard: ContextVar[_Ear | None] = ContextVar("promptcache_observed_retrievers", default=ear)
    register_configure_hook(heard, inheritable=False)
    return ear
