"""The names of parameters: those that users know from other classes, and what they are called here.

Knows names only, no values.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from typing import Any

from promptcache.errors import OptionError, valid

log = logging.getLogger("promptcache")

OF_HOSTED_MODELS = frozenset({"api_key", "base_url", "max_retries", "timeout"})
"""What a model behind an API takes. Accepted, so that swapping the class is all there is to do;
there is nothing that they could mean for a model in this process."""

OF_FROM_PRETRAINED = frozenset(
    {"attn_implementation", "cache_dir", "force_download", "local_files_only", "proxies",
     "subfolder", "token", "trust_remote_code", "use_safetensors", "variant"}
)  # fmt: skip
"""What other classes take as parameters of their own and transformers' `from_pretrained` reads."""


def with_our_names(given: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """What was given, under our names; `aliases` are other names for them, each with ours.

    Raises OptionError for one thing under two names.
    """
    named: dict[str, Any] = {}
    told: dict[str, str] = {}
    for name, value in given.items():
        if name in OF_HOSTED_MODELS:
            log.warning("%s has no effect: the model runs in this process", name)
            continue
        ours = aliases.get(name, name)
        if ours in told:
            raise OptionError(f"{told[ours]} and {name} are the same parameter: give one of them")
        told[ours] = name
        named[ours] = value
    return named


def refuse_unknown(
    given: Iterable[str],
    known: Iterable[str],
    aliases: Iterable[str] = (),
    elsewhere: Mapping[str, Container[str]] | None = None,
) -> None:
    """Raise OptionError for a name that is none of the known ones; it names these and `aliases`.

    `elsewhere` are the parameters that take other names in a dict, each with the names it takes.
    """
    names = set(known)
    for name in given:
        if name not in names:
            for parameter, taken in (elsewhere or {}).items():
                if name in taken:
                    raise OptionError(
                        f"unknown parameter {name!r}; give {parameter}={{{name!r}: ...}}"
                    )
            raise OptionError(
                f"unknown parameter {name!r}{valid(name, [*names, *aliases], what='parameters')}"
            )
