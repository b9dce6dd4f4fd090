"""Rankings of modules that a reuse policy reads and that take the model: made after the reply."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from functools import partial
from threading import Lock
from weakref import ref

from promptcache.beside import begun, is_ending
from promptcache.decoys import BEHIND, UNRELATED
from promptcache.layout import ModuleRun
from promptcache.library import ModuleLibrary

log = logging.getLogger("promptcache")


class Ranking:
    """Ranks the modules of one engine, one at a time, in a thread that ends when all are ranked."""

    def __init__(
        self,
        library: ModuleLibrary,
        tokens: Callable[[str], Sequence[int]],
        longest: int | None,
    ) -> None:
        """`tokens` gives a text's ids; `longest` is how many tokens the model can encode."""
        self._library = library
        self._tokens = tokens
        self._longest = longest
        self._lock = Lock()
        self._waiting: dict[ModuleRun, None] = {}
        self._working: Future[None] | None = None

    def later(self, runs: Iterable[ModuleRun]) -> None:
        """Have these ranked soon. Those that are too long to stand behind a decoy never are."""
        wanted = list(runs)
        if not wanted:
            return
        decoy = self._decoy()
        with self._lock:
            for run in wanted:
                length = len(run.context.ids) + len(decoy) + len(run.ids)
                if self._longest is None or length <= self._longest:
                    self._waiting[run] = None
            if self._waiting and self._working is None:
                self._begin()

    def wait(self, timeout: float | None = None) -> None:
        """Wait until all are ranked. TimeoutError after `timeout` seconds."""
        working = self._working
        if working is not None:
            working.result(timeout)

    def _begin(self) -> None:
        try:
            self._working = begun(partial(_work, ref(self)), "ranking")
        except RuntimeError as error:  # the reply that asked for it is whole
            log.warning("modules cannot be ranked now: %s", error)

    def rank_next(self) -> bool:
        """Rank one of those that wait; False when there is nothing more to do."""
        with self._lock:
            if not self._waiting or is_ending():
                self._working = None
                return False
            run = next(iter(self._waiting))
            del self._waiting[run]
        try:
            self._library.rank(run, self._decoy())
        except Exception:  # no reply waits for it: the next one that lacks it asks again
            log.warning("the module %r could not be ranked", run.name, exc_info=True)
        return True

    def _decoy(self) -> Sequence[int]:
        return self._tokens(UNRELATED + BEHIND)


def _work(ranking: ref[Ranking]) -> None:
    """Rank what waits, as long as anyone else knows of the ranking: not for a dropped engine."""
    while (alive := ranking()) is not None and alive.rank_next():
        del alive
