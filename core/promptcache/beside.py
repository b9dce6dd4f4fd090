"""Work that no request waits for: in threads that are let come to an end before Python does."""

from __future__ import annotations

import atexit
import logging
from collections.abc import Callable
from concurrent.futures import Future
from threading import Event, Lock, Thread
from typing import TypeVar

T = TypeVar("T")
log = logging.getLogger("promptcache")

_ending = Event()
_threads: set[Thread] = set()
_lock = Lock()


def is_ending() -> bool:
    """Whether the process is about to end: whoever works asks between two pieces of work."""
    return _ending.is_set()


def begun(work: Callable[[], T], what: str) -> Future[T]:
    """Begin some work; the future has its result. An error is logged, too, with `what` failed.

    Raises RuntimeError where no thread can be started.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # whoever asks for the result gets it
            log.warning("%s failed: %s", what, error)
            future.set_exception(error)
        finally:
            with _lock:
                _threads.discard(thread)

    thread = Thread(target=run, name=f"promptcache-{what}", daemon=True)
    with _lock:
        _threads.add(thread)
    try:
        thread.start()
    except RuntimeError:
        with _lock:
            _threads.discard(thread)
        raise
    return future


@atexit.register
def _end() -> None:
    """Wait for what is being done: torch must not run while the interpreter is taken down."""
    _ending.set()
    with _lock:
        waiting = list(_threads)
    for thread in waiting:
        thread.join()
