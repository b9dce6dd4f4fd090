"""What the model's own generation config asks for, where a request does not say otherwise.

Checks it as a request's options are checked. The config itself stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS, REFUSED, check_option, shown

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel

OWNER = "the model's generation config: "

WITHOUT_EFFECT = (
    "cache_config", "cache_implementation", "compile_config", "early_stopping", "is_assistant",
    "length_penalty", "max_cache_len", "max_length", "output_attentions", "output_hidden_states",
    "output_logits", "output_scores", "prefill_chunk_size", "return_dict_in_generate",
)  # fmt: skip
"""What says nothing about one answer's tokens here: taken out, as transformers logs about it."""

SAMPLING = (
    "epsilon_cutoff", "eta_cutoff", "min_p", "temperature", "top_h", "top_k", "top_p", "typical_p",
)  # fmt: skip
"""What only sampling reads; transformers logs about it where nothing is sampled."""


def generation_settings(
    model: PreTrainedModel, asked: Mapping[str, Any] = MappingProxyType({})
) -> GenerationConfig:
    """The model's generation config, checked, as a copy for a request with the options `asked`.

    Raises OptionError for what it asks for and promptcache refuses, and for values that are not
    valid. It takes some tens of microseconds.
    """
    settings = copy(model.generation_config)
    sampled = asked.get("do_sample", settings.do_sample)
    for name in (*WITHOUT_EFFECT, *(() if sampled else SAMPLING)):
        setattr(settings, name, None)
    for name in REFUSED.keys() & vars(settings).keys():
        check_option(name, getattr(settings, name), owner=OWNER)
        setattr(settings, name, None)
    settings.eos_token_id = _existing(settings.eos_token_id)
    settings.pad_token_id = _existing(settings.pad_token_id)
    for name in OPTIONS.keys() - asked.keys():
        if (value := getattr(settings, name, None)) is not None:
            setattr(settings, name, check_option(name, value, owner=OWNER))
    settings.stop_strings = None
    settings.use_cache = False  # the arena is the cache; transformers makes none
    if asked.get("min_new_tokens", settings.min_new_tokens) is not None:
        settings.min_length = None
    if settings.pad_token_id is None:
        ends = asked.get("eos_token_id", settings.eos_token_id)
        settings.pad_token_id = ends[0] if isinstance(ends, list | tuple) else ends
    return settings


def config_stop_strings(model: PreTrainedModel) -> tuple[str, ...]:
    """The strings that end an answer by the model's generation config.

    Raises OptionError where they are no strings.
    """
    given = getattr(model.generation_config, "stop_strings", None)
    strings = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(strings, list | tuple) or not all(isinstance(s, str) and s for s in strings):
        raise OptionError(
            f"{OWNER}stop_strings={shown(given)} is not a string or a list of non-empty strings"
        )
    return tuple(strings)


def config_new_tokens(model: PreTrainedModel) -> int | None:
    """How many tokens an answer may have by the model's generation config, if it says so.

    Raises OptionError where it is no positive number.
    """
    given = getattr(model.generation_config, "max_new_tokens", None)
    tokens: int | None = check_option("max_new_tokens", given, owner=OWNER)
    return tokens


def _existing(ids: Any) -> Any:
    """A token id or a list of them, without the -1 that stands for none in some configs."""
    if isinstance(ids, list):
        return [token for token in ids if token != -1] or None
    return None if ids == -1 else ids
