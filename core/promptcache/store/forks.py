"""What a forked process begins anew: threads and what they hold stay behind in its parent."""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakMethod


def after_fork(renew: Callable[[], None]) -> None:
    """Call a method in every process that is forked from this one, while its object lives."""
    method = WeakMethod(renew)

    def in_child() -> None:
        if (alive := method()) is not None:
            alive()

    os.register_at_fork(after_in_child=in_child)
