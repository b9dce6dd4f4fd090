"""Engines that hear of documents which others retrieve: several at once, none kept in memory.

How a framework is heard, and what the text of one of its documents is, the integrations know.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from threading import Lock
from types import TracebackType
from typing import Self, TypeVar
from weakref import ref

from promptcache.engine import PromptCache
from promptcache.remote.engine import RemoteEngine

T = TypeVar("T")
log = logging.getLogger("promptcache")


class Listeners:
    """The engines that listen, in whichever thread is spoken; true while there are any."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._observations: tuple[Observation, ...] = ()

    def add(self, engine: PromptCache | RemoteEngine) -> Observation:
        """Let an engine listen until the result is closed, or the engine is gone."""
        observation = Observation(engine, self)
        with self._lock:
            alive = (other for other in self._observations if other.engine is not None)
            self._observations = (*alive, observation)
        return observation

    def remove(self, observation: Observation) -> None:
        """Let it listen no more; nothing happens if it does not."""
        with self._lock:
            others = (other for other in self._observations if other is not observation)
            self._observations = tuple(others)

    def hear(self, documents: Iterable[T], text_of: Callable[[T], str]) -> None:
        """Register documents with every engine that listens, each once.

        A document that cannot be registered is logged: whoever retrieves is not to blame.
        """
        engines = {id(engine): engine for o in self._observations if (engine := o.engine)}
        for document in documents if engines else ():
            for engine in engines.values():
                try:
                    engine.cache_documents([text_of(document)], progress=False)
                except Exception:
                    log.warning(
                        "a retrieved document was not registered: %.80r", document, exc_info=True
                    )

    def __contains__(self, observation: object) -> bool:
        return observation in self._observations

    def __bool__(self) -> bool:
        return bool(self._observations)


class Observation:
    """That an engine hears of what retrievers return, until `close()`."""

    def __init__(self, engine: PromptCache | RemoteEngine, listeners: Listeners) -> None:
        self._engine = ref(engine)
        self._name = engine.name
        self._listeners = listeners

    @property
    def engine(self) -> PromptCache | RemoteEngine | None:
        """Where the documents go; None once nothing else uses that engine."""
        return self._engine()

    def close(self) -> None:
        """Stop; what was registered stays. Closing twice does nothing."""
        self._listeners.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        gone = "the engine is gone" if self.engine is None else "open"
        return f"<Observation for {self._name!r}: {gone if self in self._listeners else 'closed'}>"
