"""Lanes: where states are put into an arena beside the forward, and how the forward waits for them.

A lane knows order and nothing else: what is done in it comes after all that was asked of the
device before, and whoever reads its result waits for that result alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import torch

Wait = Callable[[], None]
"""Lets what is asked of the device from now on come after something that was done in a lane."""


class Lane(Protocol):
    """Does work beside the forward, one piece after the other."""

    def follow(self) -> None:
        """Let the coming work come after all that was asked of the device before."""

    def run(self, work: Callable[[], None]) -> Wait:
        """Ask for work; the result waits for it."""

    def join(self) -> None:
        """Wait for all work, and for what of a piece was done before an error."""


class SideStream:
    """A CUDA stream beside the one that computes. Several threads may ask it at once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def follow(self) -> None:
        """Let the coming work come after all that was asked of the device before."""
        self._stream.wait_stream(torch.cuda.current_stream(self._device))

    def run(self, work: Callable[[], None]) -> Wait:
        """Ask for work; the result waits for it, on the stream that computes then."""
        with torch.cuda.stream(self._stream):
            work()
            done = self._stream.record_event()
        return lambda: torch.cuda.current_stream(self._device).wait_event(done)

    def join(self) -> None:
        """Wait for all work, and for what of a piece was done before an error."""
        torch.cuda.current_stream(self._device).wait_stream(self._stream)


def lane_of(device: torch.device) -> Lane | None:
    """The lane of a model's device; None where copies and forward are done by the same cores."""
    return SideStream(device) if device.type == "cuda" else None


@contextmanager
def joined(lane: Lane | None) -> Iterator[None]:
    """Wait for a lane when the block is left, after an error too: what it used may then go."""
    try:
        yield
    finally:
        if lane is not None:
            lane.join()
