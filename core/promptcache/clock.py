"""How long each stage of a request took."""

from __future__ import annotations

from time import perf_counter

from promptcache.reply import Stage


class Clock:
    """Seconds spent in each stage, counted from the call."""

    def __init__(self) -> None:
        self.started = self._last = perf_counter()
        self.stages: dict[Stage, float] = {}

    def lap(self, stage: Stage) -> None:
        """Count the time since the last lap to `stage`."""
        now = perf_counter()
        self.stages[stage] = self.stages.get(stage, 0.0) + now - self._last
        self._last = now

    def waited(self) -> Clock:
        """A clock of the same call that goes on from now: the time since the last lap, in which
        another request of the call was answered, counts to no stage.
        """
        other = Clock()
        other.started, other.stages = self.started, dict(self.stages)
        return other

    def idle(self) -> None:
        """Count the time since the last lap to no stage; it is part of the whole."""
        self._last = perf_counter()

    @property
    def total(self) -> float:
        """Seconds from the call to the last lap."""
        return self._last - self.started
