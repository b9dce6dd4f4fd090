"""The engine that an LLM stands on: loaded by name, made of loaded objects, or the user's own.

Knows the names of parameters as users give them, and those that the engine has for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from promptcache import PromptCache
from promptcache.errors import OptionError

OF_FILES = (
    "tokenizer_name", "revision", "dtype", "model_kwargs", "tokenizer_kwargs", "device_map",
)  # fmt: skip
"""What says how files are read and where they go."""
OF_LOADING = (
    *OF_FILES, "model", "tokenizer", "store", "namespace", "compression",
    "chat_template", "chat_template_kwargs", "context", "conversations", "graphs",
    "continuous_batching", "max_concurrent",
    "stopping_ids", "tokenizer_outputs_to_remove", "base_url", "api_key", "timeout", "max_retries",
)  # fmt: skip
"""The parameters that only matter while the engine is made, beside the model's name."""


def loaded(model_name: object, device_map: object, options: Mapping[str, Any]) -> PromptCache:
    """The engine for a model by name.

    `options` are other parameters of loading that were given. Raises OptionError for a name or a
    device that is none, ModelError for a model that cannot be loaded.
    """
    ours = {"tokenizer" if n == "tokenizer_name" else n: value for n, value in options.items()}
    name = name_of(model_name) or "pocket"
    return PromptCache.from_pretrained(name, device=_device(device_map), **ours)


def around(
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    model_name: object,
    options: Mapping[str, Any],
) -> PromptCache:
    """The engine for a model that is in memory. Raises OptionError where half of it is missing or
    only named, or where `options` say how files are read.
    """
    for given, value in (("model", model), ("tokenizer", tokenizer)):
        if isinstance(value, str | PathLike):
            raise OptionError(
                f"{given}={fspath(value)!r} is a name, and {given}= takes an object; give the name "
                f"as {given}_name={fspath(value)!r}"
            )
    if model is None:
        raise OptionError("tokenizer= was given without model=; promptcache takes both objects")
    if tokenizer is None:
        raise OptionError(
            "model= was given without tokenizer=; promptcache takes both objects, for example "
            "tokenizer=AutoTokenizer.from_pretrained(...)"
        )
    for name in OF_FILES:
        if name in options:
            raise OptionError(f"{name}= has no effect beside model= and tokenizer= objects")
    return PromptCache(model, tokenizer, name=name_of(model_name), **options)


def name_of(given: object) -> str | None:
    """A model's name as a text, if it was given. Raises OptionError for what is none."""
    if given is None:
        return None
    if not isinstance(given, str | PathLike):
        raise OptionError(
            f"model_name={given!r:.80} is no name; expected 'pocket', a folder, or a name on the "
            "Hugging Face hub"
        )
    return fspath(given)


def _device(device_map: object) -> str | None:
    """The one device that a map of HuggingFaceLLM's kind stands for."""
    if device_map == "auto":
        return "cuda" if torch.cuda.is_available() else None
    if isinstance(device_map, Mapping) and len(set(device_map.values())) == 1:
        device_map = next(iter(device_map.values()))
    if isinstance(device_map, int):
        return f"cuda:{device_map}"
    if isinstance(device_map, torch.device):
        return str(device_map)
    if device_map is None or isinstance(device_map, str):
        return device_map
    raise OptionError(
        f"device_map={device_map!r:.80} is not one device; promptcache serves models that are on "
        "one, for example 'cpu', 'cuda' or 'cuda:0'"
    )
