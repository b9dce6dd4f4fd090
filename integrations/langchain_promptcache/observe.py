"""Documents that any retriever in this process returns, registered with an engine.

LangChain lets a handler join every run through a configure hook, and tells it what each retriever
returned before the chain goes on. Only retrievers say so: a vector store or a function that is
asked directly does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from functools import cache
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.tracers.context import register_configure_hook

from langchain_promptcache.caching import DocumentCaching
from langchain_promptcache.documents import text_of
from langchain_promptcache.intake import checked_llm
from promptcache.observing import Listeners, Observation


def observe_retrievers(llm: DocumentCaching) -> Observation:
    """Register the documents of every retriever in this process with a model's engine.

        observe_retrievers(llm)

    From here on whatever a LangChain retriever returns, in any chain, thread or task, is
    recognised in prompts, and reused from the second prompt on that holds it. Nothing is encoded
    by the retriever's call. A document that cannot be registered is logged, and breaks no chain.

    Lasts until the result is closed (a `with` block closes it) or the engine is gone; several
    models can observe at once. Raises OptionError for a model that is none of ours.
    """
    return _ear().listeners.add(checked_llm(llm).engine)


class _Ear(BaseCallbackHandler):
    """Hears what retrievers return, and nothing else of a run."""

    def __init__(self) -> None:
        self.listeners = Listeners()

    def on_retriever_end(self, documents: Sequence[Document], **_: Any) -> None:
        """Give the documents to every engine that observes."""
        self.listeners.hear(documents, text_of)

    @property
    def ignore_retriever(self) -> bool:
        return not self.listeners

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
