"""A lane without a GPU, the worst that a stream may be: nothing is done before somebody waits."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from promptcache.model.overlap import Wait


class Later:
    """A lane that does all that it is asked for in order, and as late as it may."""

    def __init__(self) -> None:
        self.followed: list[int] = []
        self.asked = 0
        self.done = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def follow(self) -> None:
        self.followed.append(self.asked)

    def run(self, work: Callable[[], None]) -> Wait:
        self._waiting.append(work)
        self.asked += 1
        number = self.asked
        return lambda: self._do(number)

    def join(self) -> None:
        self._do(self.asked)

    def _do(self, number: int) -> None:
        while self.done < number:
            self._waiting.popleft()()
            self.done += 1
