"""What makes one model's attention states unusable for another: a hash of all that changes them.

Configuration (rope parameters and quantisation within it), dtype, attention, tokenizer, sampled
bytes of every parameter and buffer, active adapters. Never a path, a name or an object's identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

SAMPLES = 64
"""Values read from each parameter, evenly spread."""

UNRELATED = frozenset(
    {"_name_or_path", "transformers_version", "architectures", "use_cache", "torch_dtype"}
)


class Fingerprint:
    """A model's fingerprint, taken again when the model has changed.

    A change is noticed by parameters that were replaced or written to (torch counts writes),
    and by adapters that were added, switched, scaled or merged. Writes through `tensor.data`
    are not counted by torch: call `refresh()` after them.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: str, attention: str | None) -> None:
        self._model = model
        self._fixed = f"{tokenizer}|{attention}"
        self._state: object = None
        self._digest = ""

    def current(self) -> str:
        """The hexadecimal digest for the model as it is now."""
        state = (tuple(_versions(self._model)), tuple(_adapters(self._model)))
        if state != self._state:
            self._digest = _digest(self._model, self._fixed)
            self._state = state
        return self._digest

    def refresh(self) -> None:
        """Read the model again at the next use."""
        self._state = None


def _digest(model: PreTrainedModel, fixed: str) -> str:
    digest = blake2b(digest_size=20)
    config = {k: v for k, v in model.config.to_dict().items() if k not in UNRELATED}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(fixed.encode())
    digest.update(repr(list(_adapters(model))).encode())
    for name, tensor in _tensors(model):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(_sample(tensor))
    return digest.hexdigest()


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _versions(model: PreTrainedModel) -> Iterator[tuple[int, int]]:
    for parameter in model.parameters():
        yield parameter.data_ptr(), parameter._version


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    if not flat.numel():
        return b""
    step = max(1, flat.numel() // SAMPLES)
    return bytes(flat[::step].contiguous().cpu().view(torch.uint8).numpy().tobytes())


def _adapters(model: PreTrainedModel) -> Iterator[str]:
    """What each adapter layer says of itself: which adapters are active, merged, how scaled."""
    for name, module in model.named_modules():
        active: Any = getattr(module, "active_adapters", None)
        if isinstance(active, list | tuple) and hasattr(module, "disable_adapters"):
            merged = getattr(module, "merged_adapters", ())
            scaling = getattr(module, "scaling", {})
            yield f"{name} {active} {module.disable_adapters} {merged} {scaling}"
