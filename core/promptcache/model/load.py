"""Load a model and its tokenizer, by name, from a folder, or from the user's own hands.

Refuses by name what promptcache was not tried with. `pocket` is the model that ships with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from promptcache.errors import ModelError, UnsupportedModelError, valid

DTYPES: dict[str, str | torch.dtype] = {
    "auto": "auto",
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
}


def load(
    name: str | Path,
    *,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    **kwargs: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The model and tokenizer that a hub name, a folder or `pocket` stands for.

    `kwargs` go to transformers' `from_pretrained`. Raises ModelError when they cannot be loaded
    and UnsupportedModelError for what promptcache refuses.
    """
    source, chosen = _source(name), _dtype(dtype)
    with _explained(name):
        config = AutoConfig.from_pretrained(source, revision=revision)
        refuse_unsupported_config(config, str(name))
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
        model = AutoModelForCausalLM.from_pretrained(
            source, revision=revision, dtype=chosen, **kwargs
        )
    if device is not None:
        model = model.to(_device(device))
    return model.eval(), tokenizer


def load_tokenizer(name: str | Path, *, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer alone. Raises ModelError when it cannot be loaded."""
    source = _source(name)
    with _explained(name):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            source, revision=revision
        )
    return tokenizer


@contextmanager
def _explained(name: str | Path) -> Iterator[None]:
    """Turn what transformers raises for a model it cannot load into one sentence."""
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"cannot load a model from {str(name)!r}: {lines[0]} Expected 'pocket', a folder that "
            "save_pretrained wrote (config.json, model.safetensors, tokenizer.json), or the name "
            "of a causal language model on the Hugging Face hub."
        ) from error


def check_model(model: object, tokenizer: object) -> None:
    """Raise for a model or tokenizer object that promptcache cannot use as it is."""
    if hasattr(model, "_orig_mod"):
        raise UnsupportedModelError(
            "the model is wrapped by torch.compile, which would compile anew for every prompt "
            "length; pass the model itself (model._orig_mod)"
        )
    if hasattr(model, "get_base_model"):
        raise UnsupportedModelError(
            "the model is wrapped by PEFT's PeftModel; use transformers' own "
            "model.load_adapter(...) or pass peft_model.get_base_model(), whose adapter layers "
            "stay in place"
        )
    if not isinstance(model, PreTrainedModel) or not model.can_generate():
        raise ModelError(
            f"the model is a {type(model).__name__}; expected a transformers model that can "
            "generate, such as AutoModelForCausalLM gives"
        )
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise ModelError(
            f"the tokenizer is a {type(tokenizer).__name__}; expected a transformers tokenizer, "
            "such as AutoTokenizer gives"
        )
    refuse_unsupported_config(model.config, type(model).__name__)
    devices = {str(device) for device in (getattr(model, "hf_device_map", None) or {}).values()}
    if len(devices) > 1:
        raise UnsupportedModelError(
            f"the model is spread over several devices ({', '.join(sorted(devices))}), which "
            "promptcache was not tried with; load it on one device"
        )


def refuse_unsupported_config(config: Any, name: str) -> None:
    """Raise UnsupportedModelError for kinds of model that are refused by name."""
    if getattr(config, "is_encoder_decoder", False):
        raise UnsupportedModelError(
            f"{name} is an encoder-decoder model; promptcache serves decoder-only models"
        )
    if getattr(config, "vision_config", None) or getattr(config, "audio_config", None):
        raise UnsupportedModelError(
            f"{name} is a multimodal model; promptcache was not tried with these, load its "
            "text-only form"
        )
    if getattr(config, "quantization_config", None):
        raise UnsupportedModelError(
            f"{name} is quantised, which promptcache was not tried with; load it in bfloat16"
        )


def _source(name: str | Path) -> str:
    if str(name) == "pocket":
        from promptcache.pocket import pocket_path

        name = pocket_path()
    path = Path(name).expanduser()
    if path.exists() or isinstance(name, Path) or str(name).startswith((".", "/", "~")):
        if not path.is_dir():
            raise ModelError(f"there is no model folder at {str(name)!r}")
        if not (path / "config.json").is_file():
            raise ModelError(
                f"{str(name)!r} is not a model folder: it has no config.json. Expected what "
                "save_pretrained writes (config.json, model.safetensors, tokenizer.json)."
            )
        return str(path)
    return str(name)


def _dtype(dtype: str | torch.dtype) -> str | torch.dtype:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype not in DTYPES:
        raise ModelError(f"unknown dtype {dtype!r}{valid(dtype, DTYPES)}")
    return DTYPES[dtype]


def _device(device: str | torch.device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"device {str(device)!r} cannot be used: {first}") from error
