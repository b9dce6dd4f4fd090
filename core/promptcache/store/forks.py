"""What a forked process begins anew: threads and what they hold stay behind in its parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from weakref import WeakMethod, WeakSet

_moments: WeakSet[Lock] = WeakSet()
_held: list[Lock] = []
_registering = Lock()


def after_fork(renew: Callable[[], None]) -> None:
    """Call a method in every process that is forked from this one, while its object lives."""
    method = WeakMethod(renew)

    def in_child() -> None:
        if (alive := method()) is not None:
            alive()

    os.register_at_fork(after_in_child=in_child)


def lock_for_moments() -> Lock:
    """A lock under which nobody takes another one: a fork waits for it, and finds all it guards
    whole.
    """
    lock = Lock()
    with _registering:
        _moments.add(lock)
    return lock


def _wait() -> None:
    _registering.acquire()
    _held[:] = _moments
    for lock in _held:
        lock.acquire()


def _go_on() -> None:
    while _held:
        _held.pop().release()
    _registering.release()


os.register_at_fork(before=_wait, after_in_parent=_go_on, after_in_child=_go_on)
