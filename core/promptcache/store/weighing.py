"""What a byte of attention states is worth: what it cost to encode, as far as that is known."""

from __future__ import annotations

from math import log2

TYPICAL = 2.0**-22
"""Seconds per byte, of states none of whose like has a known cost yet."""


class Weights:
    """Weighs the states of one tier; those of unknown cost like the mean of the others.

    Weights are powers of two: measured costs are not exact, and what costs about the same is to
    go in the order in which it was used.
    """

    def __init__(self) -> None:
        self._cost = 0.0
        self._nbytes = 0

    def weight(self, cost: float | None, nbytes: int) -> float:
        """The weight of `nbytes` bytes that took `cost` seconds, in seconds per byte."""
        if cost and nbytes:
            self._cost += cost
            self._nbytes += nbytes
            return _rounded(cost / nbytes)
        return _rounded(self._cost / self._nbytes) if self._nbytes else TYPICAL


def _rounded(value: float) -> float:
    return 2.0 ** round(log2(value))
