"""Parameters as users of other classes give them: what they are called, and what goes together.

Knows no framework, and nothing of what a single value may be.
"""

from __future__ import annotations

import logging
from collections.abc import Container, Iterable, Mapping
from typing import Any

from promptcache.engine import PromptCache
from promptcache.errors import OptionError, valid
from promptcache.remote.engine import RETRIES, TIMEOUT, RemoteEngine
from promptcache.remote.options import body_of

log = logging.getLogger("promptcache")

Engine = PromptCache | RemoteEngine
"""What an integration stands on: an engine in this process, or one behind a URL."""

OF_SERVERS = ("base_url", "api_key", "timeout", "max_retries")
"""What says where a server is and how it is asked. Without `base_url` the others are accepted, so
that swapping the class is all there is to do; there is nothing that they could mean then."""

OF_FROM_PRETRAINED = frozenset(
    {"attn_implementation", "cache_dir", "force_download", "local_files_only", "proxies",
     "subfolder", "token", "trust_remote_code", "use_safetensors", "variant"}
)  # fmt: skip
"""What other classes take as parameters of their own and transformers' `from_pretrained` reads."""


def with_our_names(given: Mapping[str, Any], aliases: Mapping[str, str]) -> dict[str, Any]:
    """What was given, under our names; `aliases` are other names for them, each with ours.

    What only a server has a use for is left out where there is no `base_url`.

    Raises OptionError for one thing under two names.
    """
    remote = given.get("base_url") is not None
    named: dict[str, Any] = {}
    told: dict[str, str] = {}
    for name, value in given.items():
        if name in OF_SERVERS and not remote:
            if value is not None:
                log.warning(
                    "%s has no effect without base_url: the model runs in this process", name
                )
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


def check_engine(engine: object, name: str | None, options: Iterable[str], *, called: str) -> None:
    """Raise OptionError for what is no engine, and for what was given beside one that is loaded.

    `name` is the model's, if it was given, and `called` the parameter for it; `options` are the
    names of other parameters of loading that were given.
    """
    if not isinstance(engine, PromptCache | RemoteEngine):
        raise OptionError(f"engine={engine!r:.80} is not a PromptCache")
    if name not in (None, engine.name):
        raise OptionError(
            f"{called}={name!r} was given with an engine that serves {engine.name!r}: give one of "
            "the two"
        )
    for option in options:
        if isinstance(engine, RemoteEngine):
            raise OptionError(
                f"{option}= has no effect on an engine at {engine.base_url}; `promptcache serve` "
                "says what its model is and where states are kept"
            )
        raise OptionError(
            f"{option}= has no effect on an engine that is loaded already; give it to "
            "PromptCache.from_pretrained"
        )


def connected(given: Mapping[str, Any]) -> RemoteEngine:
    """The engine of the server that `given` names (see `OF_SERVERS`).

    Raises OptionError for a setting that cannot be used, RemoteError where no server answers.
    """
    key: Any = given.get("api_key")
    key = key.get_secret_value() if hasattr(key, "get_secret_value") else key
    timeout, retries = given.get("timeout"), given.get("max_retries")
    return RemoteEngine(
        given["base_url"],
        key,
        timeout=TIMEOUT if timeout is None else timeout,
        max_retries=RETRIES if retries is None else retries,
    )


def check_remote(loading: Iterable[str], options: Mapping[str, Any]) -> None:
    """Raise OptionError for what no server can be asked for.

    `loading` are the parameters of loading that were given, `options` those of generation.
    """
    for name in loading:
        raise OptionError(f"{name}= has no effect with base_url=; give it to `promptcache serve`")
    body_of(options)


def options_of_request(
    others: Mapping[str, Any],
    settings: Mapping[str, Any],
    call: Mapping[str, Any],
    aliases: Mapping[str, str],
) -> dict[str, Any]:
    """What a request asks for, under our names: what its call gives, what is set, and `others`.

    What comes first in this order holds. None asks for nothing: in a call it takes back what is
    set, and what is set to it leaves `others` as they are.
    """
    asked = with_our_names(others, aliases)
    asked |= {name: value for name, value in settings.items() if value is not None}
    asked |= with_our_names(call, aliases)
    return {name: value for name, value in asked.items() if value is not None}


def sentence_of(objection: Mapping[str, Any]) -> str:
    """An objection of pydantic's to a parameter: one of its `error.errors()`."""
    # Behind the first place stand the types that it might have had.
    name = objection["loc"][0] if objection["loc"] else "the whole"
    if objection["type"] == "missing":
        return f"{name}= is missing"
    said = objection["msg"]
    return f"{name}={objection['input']!r:.80} is not valid: {said[0].lower()}{said[1:]}"
