"""The names of parameters: those that LangChain's users know, and what they are called here.

Knows names only, no values.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from promptcache.errors import OptionError, valid
from promptcache.model.generation import OPTIONS

log = logging.getLogger("promptcache")

ALIASES = {
    "max_new_tokens": "max_tokens",
    "model_id": "model",
    "model_name": "model",
    "pipeline_kwargs": "generation_kwargs",
    "stop_sequences": "stop",
}
"""Names from other LangChain classes, and ours."""

OF_HOSTED_MODELS = frozenset({"api_key", "base_url", "max_retries", "timeout"})
"""What a model behind an API takes. Accepted, so that swapping the class is all there is to do;
there is nothing that they could mean for a model in this process."""

OF_LOADING = frozenset(
    {"attn_implementation", "cache_dir", "force_download", "local_files_only", "proxies",
     "subfolder", "token", "trust_remote_code", "use_safetensors", "variant"}
)  # fmt: skip
"""What other classes take as parameters of their own and transformers' `from_pretrained` reads."""


def with_our_names(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given, under our names. Raises OptionError for one thing under two names."""
    named: dict[str, Any] = {}
    told: dict[str, str] = {}
    for name, value in given.items():
        if name in OF_HOSTED_MODELS:
            log.warning("%s has no effect: the model runs in this process", name)
            continue
        ours = ALIASES.get(name, name)
        if ours in told:
            raise OptionError(f"{told[ours]} and {name} are the same parameter: give one of them")
        told[ours] = name
        named[ours] = value
    return named


def refuse_unknown(given: Iterable[str], known: Iterable[str], aliases: Iterable[str] = ()) -> None:
    """Raise OptionError for a name that is none of the known ones; it names these and `aliases`."""
    names = set(known)
    for name in given:
        if name not in names:
            for kind, elsewhere in (("generation_kwargs", OPTIONS), ("model_kwargs", OF_LOADING)):
                if kind in names and name in elsewhere:
                    raise OptionError(f"unknown parameter {name!r}; give {kind}={{{name!r}: ...}}")
            raise OptionError(
                f"unknown parameter {name!r}{valid(name, [*names, *aliases], what='parameters')}"
            )
