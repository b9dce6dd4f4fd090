"""An LLM as plain values, and its parameters read back from them.

Beside the fields, which pydantic writes, a dict says how the engine was made. Models, functions and
whatever may hold a secret (`model_kwargs`) are never written, only that they were given.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import torch

from llama_index_promptcache.loading import OF_FILES, OF_LOADING
from promptcache.errors import OptionError
from promptcache.reuse.named import policy

log = logging.getLogger("promptcache")

PLAIN = (
    "tokenizer_name", "revision", "dtype", "device_map", "namespace", "compression",
    "chat_template", "chat_template_kwargs", "context", "conversations", "graphs",
    "continuous_batching", "max_concurrent",
    "base_url", "timeout", "max_retries",
)  # fmt: skip
"""The parameters of loading that are written."""
FUNCTIONS = (
    "messages_to_prompt", "completion_to_prompt", "output_parser", "query_wrapper_prompt",
)  # fmt: skip
"""LlamaIndex's own fields that change prompts and that no dict holds."""
OBJECTS = ("engine", "model", "tokenizer")
FROM_OBJECTS = "from_objects"
"""Says in a dict that there is no name to load the model by."""
LEFT_OUT = "left_out"
"""Lists in a dict what was given and is not there."""


def as_written(given: Mapping[str, Any]) -> dict[str, Any]:
    """What a dict says of the parameters that an LLM was made with, beside its fields."""
    plain = {name: _plain(given[name]) for name in PLAIN if name in given}
    plain = {name: value for name, value in plain.items() if is_plain(value)}
    left_out = [n for n in given if n in {*OF_LOADING, *FUNCTIONS} - {*plain, *OBJECTS}]
    said: dict[str, Any] = dict(plain)
    if any(name in given for name in OBJECTS):
        said[FROM_OBJECTS] = True
    if left_out:
        said[LEFT_OUT] = sorted(left_out)
    return said


def read_back(written: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that make an LLM of what was written; those that are `given` stand above.

    Logs what was left out and is not given. Raises OptionError for an LLM of loaded objects
    without any given now, and for a policy that is not one of promptcache's.
    """
    settings = dict(written)
    from_objects, left_out = settings.pop(FROM_OBJECTS, False), settings.pop(LEFT_OUT, ())
    made: tuple[str, ...] = ()
    if given.get("engine") is not None:
        made = ("model_name", *OF_LOADING)
    elif given.get("model") is not None:
        made = OF_FILES
    elif from_objects:
        raise OptionError(
            "this LLM was made of loaded objects, which are not in a dict: give engine=..., or "
            "model=... and tokenizer=..., beside it"
        )
    kept = {name: value for name, value in settings.items() if name not in made}
    settings = {**kept, **given}
    missing = [name for name in left_out if name not in {*settings, *made}]
    if missing:
        log.warning("not written of this LLM, and not given again: %s", ", ".join(missing))
    if isinstance(settings.get("reuse"), str):
        settings["reuse"] = policy(settings["reuse"])
    return settings


def is_plain(value: object) -> bool:
    """Whether JSON can say it."""
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _plain(value: object) -> object:
    if isinstance(value, PathLike):
        return fspath(value)
    if isinstance(value, torch.dtype | torch.device):
        return str(value).removeprefix("torch.")
    return {n: _plain(v) for n, v in value.items()} if isinstance(value, Mapping) else value
