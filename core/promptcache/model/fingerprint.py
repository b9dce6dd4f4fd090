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
        self._seen: object = None
        self._digest = ""

    def current(self) -> str:
        """The hexadecimal digest for the model as it is now."""
        state = _state(self._model)
        if state != self._seen:
            self._digest = _digest(self._model, self._fixed)
            self._seen = state
        return self._digest

    def refresh(self) -> None:
        """Read the model again at the next use."""
        self._seen = None


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


def _state(model: PreTrainedModel) -> list[object]:
    """What changes with the model, and is cheap enough to read for every request."""
    state: list[object] = []
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                state += parameter.data_ptr(), parameter._version
        said = _adapter(module)
        if said:
            state.append(said)
    return state


def _sample(tensor: Tensor) -> bytes:
    flat = tensor.detach().reshape(-1)
    if not flat.numel():
        return b""
    step = max(1, flat.numel() // SAMPLES)
    return bytes(flat[::step].contiguous().cpu().view(torch.uint8).numpy().tobytes())


def _adapters(model: PreTrainedModel) -> Iterator[str]:
    for name, module in model.named_modules():
        said = _adapter(module)
        if said:
            yield f"{name} {said}"


def _adapter(module: torch.nn.Module) -> str | None:
    """What an adapter layer says of itself: which adapters are active, merged, how scaled."""
    if not isinstance(getattr(type(module), "active_adapters", None), property):
        return None
    layer: Any = module
    merged, scaling = getattr(layer, "merged_adapters", ()), getattr(layer, "scaling", {})
    return f"{layer.active_adapters} {layer.disable_adapters} {merged} {scaling}"
