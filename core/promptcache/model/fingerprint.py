"""What makes one model's attention states unusable for another: a hash of all that changes them.

Configuration (rope parameters and quantisation within it), dtype, attention, tokenizer, a checksum
over every byte of every parameter, active adapters. Never a path, a name or an object's identity.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

CHUNK = 1 << 22
"""Eight-byte words that are checked at a time."""
MULTIPLIER = 0x1E3779B97F4A7C15
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
        state = state_of(self._model)
        if state != self._seen:
            self._digest = _digest(self._model, self._fixed)
            self._seen = state
        return self._digest

    def refresh(self) -> None:
        """Read the model again at the next use."""
        self._seen = None


def checksum(tensor: Tensor) -> bytes:
    """Eight bytes that change with any change of one value, and with the order of values.

    Each eight-byte word is multiplied by an odd number of its own and all are added up, modulo
    2**64, on the tensor's own device.
    """
    flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    whole = flat[: flat.numel() // 8 * 8].view(torch.int64)
    size = min(CHUNK, max(1, whole.numel()))
    factors = torch.arange(1, size + 1, device=flat.device).mul_(MULTIPLIER).bitwise_or_(1)
    total = 0
    for start in range(0, whole.numel(), CHUNK):
        chunk = whole[start : start + CHUNK]
        added = int((chunk * factors[: chunk.numel()]).sum())
        total = (total * 31 + added) % (1 << 64)
    rest = bytes(flat[whole.numel() * 8 :].cpu().numpy().tobytes())
    return total.to_bytes(8, "little") + rest


def _digest(model: PreTrainedModel, fixed: str) -> str:
    digest = blake2b(digest_size=20)
    config = {k: v for k, v in model.config.to_dict().items() if k not in UNRELATED}
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    digest.update(fixed.encode())
    for name, module in model.named_modules():
        said = _adapter(module)
        if said:
            digest.update(f"{name} {said};".encode())
        for own, tensor in _tensors(module):
            digest.update(f"{name}.{own}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(checksum(tensor))
    return digest.hexdigest()


def state_of(model: PreTrainedModel) -> list[object]:
    """What changes with the model, and is cheap enough to read for every request."""
    state: list[object] = []
    for module in model.modules():
        for _, tensor in _tensors(module):
            state += tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
        said = _adapter(module)
        if said:
            state.append(said)
    return state


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """A module's parameters and lasting buffers; what it derives from its config is not among
    them, and may change with the length of a prompt.
    """
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield name, parameter
    for name, buffer in module._buffers.items():
        if buffer is not None and name not in module._non_persistent_buffers_set:
            yield name, buffer


def _adapter(module: nn.Module) -> str | None:
    """What an adapter layer says of itself: which adapters are active, merged, how scaled."""
    if not isinstance(getattr(type(module), "active_adapters", None), property):
        return None
    layer: Any = module
    merged, scaling = getattr(layer, "merged_adapters", ()), getattr(layer, "scaling", {})
    return f"{layer.active_adapters} {layer.disable_adapters} {merged} {scaling}"
