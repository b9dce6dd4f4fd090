"""Threads for work that may never come to an end: one waits as long as one likes, and goes on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from threading import Condition, Thread
from typing import Any, TypeVar

from promptcache.store.forks import after_fork

T = TypeVar("T")

IDLE = 10.0
"""Seconds after which a thread that has nothing to do ends."""


class Workers:
    """At most `most` threads, which do not keep the process from ending.

    A process that is forked from this one starts threads of its own.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._renew()
        after_fork(self._renew)

    def _renew(self) -> None:
        self._jobs: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._threads = 0
        self._idle = 0
        self._changed = Condition()

    def begin(self, work: Callable[[], T]) -> Future[T]:
        """Have some work done; a future that is cancelled before it is begun is left out.

        Where there is no thread and none can be started, the future has that RuntimeError.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._idle <= len(self._jobs) and self._threads < self._most:
                try:
                    Thread(target=self._work, name="promptcache-remote", daemon=True).start()
                    self._threads += 1
                except RuntimeError as error:
                    if not self._threads:
                        future.set_exception(error)
                        return future
            self._jobs.append((future, work))
            self._changed.notify()
        return future

    def _work(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:  # whoever waits for the result gets it
                    future.set_exception(error)
            del job, future, work  # what was fetched is not held while nothing is done

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._changed:
            self._idle += 1
            self._changed.wait_for(lambda: self._jobs, IDLE)
            self._idle -= 1
            if self._jobs:
                return self._jobs.popleft()
            self._threads -= 1
            return None
