"""Who may run the model now, who waits for it, and who is refused.

Knows nothing of requests but that they come and go.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from time import monotonic

from promptcache.server.failures import RefusedError

REMEMBERED = 32
"""Requests whose durations say how long the next ones will take."""


class Gate:
    """Places for `concurrency` requests and a queue for `queue` more. For one event loop."""

    def __init__(self, concurrency: int, queue: int) -> None:
        self._places = concurrency
        self._queue = queue
        self._turn: deque[asyncio.Future[float]] = deque()
        self._took: deque[float] = deque([1.0], maxlen=REMEMBERED)
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._turn)

    async def enter(self) -> float:
        """Wait for a place; the moment that it came. RefusedError where the queue is full."""
        if self.running < self._places and not self._turn:
            self.running += 1
            return monotonic()
        if len(self._turn) >= self._queue:
            seconds = self._seconds()
            raise RefusedError(
                429,
                f"{self.running} requests are being served and {self.waiting} wait, as many as "
                f"this server takes; try again in {seconds} s",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(seconds)},
            )
        mine: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._turn.append(mine)
        try:
            return await mine
        except BaseException:
            if mine.done() and not mine.cancelled():  # the place came, and nobody takes it
                self.leave(mine.result())
            elif mine in self._turn:
                self._turn.remove(mine)
            raise

    def leave(self, since: float) -> None:
        """Give a place that came at that moment to who has waited longest, or back."""
        now = monotonic()
        self._took.append(now - since)
        self.running -= 1
        while self._turn:
            first = self._turn.popleft()
            if not first.done():  # else it was cancelled, and does not know yet
                self.running += 1
                first.set_result(now)
                return

    def _seconds(self) -> int:
        """Until there may be a place in the queue, by how long the last requests took."""
        mean = sum(self._took) / len(self._took)
        return max(1, math.ceil(mean / self._places))
