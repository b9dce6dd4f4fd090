"""Whether a model's forwards may be of fixed size, for this model: tried against ordinary ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from promptcache.model import attention
from promptcache.model.arena import Arena
from promptcache.model.fingerprint import state_of
from promptcache.model.graphs import CudaRecorder, Recorder
from promptcache.model.runner import ModelRunner, Traits
from promptcache.model.static import StaticForwards

TRIED = 24
"""Tokens of the sequence that is tried."""


def record_forwards(
    runner: ModelRunner, traits: Traits, longest: int | None, recorder: Recorder | None = None
) -> str | None:
    """Let `runner` replay forwards over few tokens of sequences that are no `longest` than that.

    They are recorded as CUDA graphs, where no other recorder is given. The result says why they
    are not, None where they are.
    """
    name = type(runner.model).__name__
    if recorder is None and runner.device.type != "cuda":
        return f"there are no CUDA graphs on the device {str(runner.device)!r}"
    if traits.attention != attention.NAME:
        return f"{name} computes attention in a way of its own"
    if not runner.takes_positions:
        return f"{name} counts positions itself"
    if traits.movement.limit is not None:
        return f"{traits.movement.limited_by} of {name} depends on the length"
    if len({(shape.dtype, shape.device) for shape in traits.layers}) > 1:
        return f"the layers of {name} differ in dtype or device"
    recorder = recorder or CudaRecorder(runner.device)
    runner.static = StaticForwards(
        traits.layers, longest, recorder, lambda: _state(runner.model, runner.device)
    )
    problem = _problem(runner, traits, runner.static)
    runner.static.recordings.clear()
    if problem:
        runner.static = None
    return problem


def _state(model: PreTrainedModel, device: torch.device) -> object:
    """What a recording is of, None while nothing may be replayed.

    A recording calls no hooks, and it is ordered by one stream, as its arena is.
    """
    if any(module._forward_hooks or module._forward_pre_hooks for module in model.modules()):
        return None
    if device.type == "cuda":
        stream = torch.cuda.current_stream(device)
        if stream != torch.cuda.default_stream(device):
            return None
    return state_of(model)


def _problem(runner: ModelRunner, traits: Traits, static: StaticForwards) -> str | None:
    """What is wrong with forwards of fixed size, held against ordinary ones."""
    vocabulary = runner.model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(min(8, vocabulary - 1), vocabulary, (TRIED,), generator=generator).tolist()
    arena = static.lend(TRIED)
    if arena is None:
        return "there is no arena for them now"
    try:
        got = _logits(runner, traits, ids, arena)
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(runner.model).__name__}: {error}"
    expected = _logits(runner, traits, ids, Arena(traits.layers, capacity=TRIED))
    difference = float((got - expected).norm() / expected.norm())
    if not difference <= _tolerance(traits.layers[0].dtype):
        return f"logits of {type(runner.model).__name__} differ by {difference:.1g} then"
    return None


def _logits(runner: ModelRunner, traits: Traits, ids: Sequence[int], arena: Arena) -> Tensor:
    """Logits of a sequence, of positions with gaps computed again, and of one more token."""
    rest = len(ids) - 1
    work = [range(rest), [*range(1, rest, 3)], [rest]]
    outputs = [
        runner.forward(
            torch.tensor([[ids[place] for place in positions]]),
            positions,
            arena,
            length=max(rest, positions[-1] + 1),
            attention=traits.attention,
        )
        for positions in work
    ]
    return torch.cat(outputs).float()


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.1
