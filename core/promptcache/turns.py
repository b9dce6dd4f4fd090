"""How many requests may be on their way at once; the others wait, first come first served."""

from __future__ import annotations

from collections import deque
from threading import Condition

from promptcache.errors import OptionError


class Turns:
    """Hands out at most `most` turns at once; None is any number. Safe to use from several threads.

    Raises OptionError for a number that is not positive.
    """

    def __init__(self, most: int | None = None) -> None:
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise OptionError(
                f"max_concurrent={most!r:.80}: expected a number of 1 or more, or None"
            )
        self.most = most
        self._taken = 0
        self._waiting: deque[object] = deque()
        self._free = Condition()

    def take(self, count: int = 1) -> Turn:
        """Wait until `count` turns are free together, and take them; at most `most` of them."""
        if self.most is None:
            return Turn(None, count)
        assert count <= self.most
        most, me = self.most, object()
        with self._free:
            self._waiting.append(me)
            try:
                self._free.wait_for(lambda: self._waiting[0] is me and self._taken + count <= most)
                self._taken += count
            finally:
                self._waiting.remove(me)
                self._free.notify_all()
        return Turn(self, count)

    def give_back(self, count: int) -> None:
        """Let others have these."""
        with self._free:
            self._taken -= count
            self._free.notify_all()


class Turn:
    """Turns that were taken together."""

    def __init__(self, turns: Turns | None, count: int) -> None:
        self._turns = turns
        self._count = count

    def end(self) -> None:
        """Give them back; a second time does nothing."""
        turns, self._turns = self._turns, None
        if turns is not None:
            turns.give_back(self._count)
