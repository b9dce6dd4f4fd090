"""Forwards that are recorded once and replayed, so that no kernel of theirs is launched by itself.

On a GPU a forward over few tokens takes as long as its launches do; a CUDA graph has one. What is
replayed was checked against the same forward run as usual, on inputs that it was not recorded
with. Knows neither arenas nor models; only `CudaRecorder` knows CUDA.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

log = logging.getLogger("promptcache")

KEPT = 12
"""Recordings that are kept; each holds the memory of a forward's intermediate results."""
WARM_UPS = 3
"""Runs before one is recorded, in which libraries choose kernels and allocate what they keep."""

Run = Callable[[], Tensor]


class Recorder(Protocol):
    """Records what a function does on the device."""

    def record(self, run: Run) -> Run:
        """What does again what `run` does, with the inputs there are then, into the same result."""


class CudaRecorder:
    """Records CUDA graphs of a device, which share their working memory."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()

    def record(self, run: Run) -> Run:
        """What does again what `run` does, with the inputs there are then, into the same result.

        Other threads may use the device meanwhile. Raises RuntimeError for what cannot be recorded.
        """
        main = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(main)
        with torch.cuda.stream(self._stream):
            for _ in range(WARM_UPS):
                run()
        main.wait_stream(self._stream)
        graph = torch.cuda.CUDAGraph()
        # After an error torch.cuda.graph leaves its stream set; the outer block takes it back.
        with (
            torch.cuda.stream(self._stream),
            torch.cuda.graph(
                graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"
            ),
        ):
            result = run()

        def replay() -> Tensor:
            graph.replay()
            return result

        return replay


class Inputs(Protocol):
    """What a recorded function reads, at the same place every time."""

    def blank(self) -> None:
        """Inputs that change nothing that anybody reads."""

    def restore(self) -> None:
        """The inputs that there were before."""


class Recordings:
    """Functions by what tells their shapes, recorded when they are asked for a second time.

    The first error, or result that differs, ends all recording: everything is run as usual then.
    Not safe to use from several threads.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder: Recorder | None = recorder
        self._replays: OrderedDict[Hashable, Run] = OrderedDict()
        self._seen: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._replays)

    @property
    def given_up(self) -> bool:
        """Whether nothing is recorded any more."""
        return self._recorder is None

    def clear(self) -> None:
        """Forget what was recorded: memory that it reads or writes is no longer that of now."""
        self._replays.clear()
        self._seen.clear()

    def run(self, key: Hashable, run: Run, inputs: Inputs) -> Tensor:
        """The result of `run`, which nobody else writes to."""
        if key in self._replays:
            self._replays.move_to_end(key)
            return self._replays[key]().clone()
        if key not in self._seen or self._recorder is None:
            self._seen.add(key)
            return run()
        return self._recorded(self._recorder, key, run, inputs)

    def _recorded(self, recorder: Recorder, key: Hashable, run: Run, inputs: Inputs) -> Tensor:
        expected = run()
        try:
            inputs.blank()
            with _Unread():  # type: ignore[no-untyped-call]
                run()
            replay = recorder.record(run)
            inputs.restore()
            got = replay().clone()
        except RuntimeError as error:
            inputs.restore()
            self._give_up(str(error).splitlines()[0])
            return expected
        difference = (got.float() - expected.float()).norm() / expected.float().norm()
        if not float(difference) <= _tolerance(expected.dtype):
            self._give_up(f"its results differ by {float(difference):.1g}")
            return run()  # what the replay wrote is written again
        self._replays[key] = replay
        if len(self._replays) > KEPT:
            oldest, _ = self._replays.popitem(last=False)
            self._seen.discard(oldest)
        return expected

    def _give_up(self, why: str) -> None:
        log.warning("forwards of this model are not recorded as CUDA graphs: %s", why)
        self._recorder = None
        self.clear()


class _Unread(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses, in this thread, operations that wait for a value: a recording would keep it."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        waits = torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape
        if any(tag in func.tags for tag in waits) and not _picks_by_number(func, args):
            raise RuntimeError(f"the model reads values while it runs ({func})")
        return func(*args, **(kwargs or {}))


def _picks_by_number(func: Any, args: Sequence[Any]) -> bool:
    """Whether an operation indexes by numbers: that waits for nothing, as it does with a mask."""
    if func is not torch.ops.aten.index.Tensor:
        return False
    return not any(
        index.dtype in (torch.bool, torch.uint8) for index in args[1] if index is not None
    )


def _tolerance(dtype: torch.dtype) -> float:
    """The same kernels ran on the same numbers: only rounding may differ."""
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.02
