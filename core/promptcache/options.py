"""What an engine and a request may be asked for beside model and prompt, checked by name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from promptcache.errors import OptionError
from promptcache.model.defaults import SAMPLING
from promptcache.model.generation import OPTIONS, REFUSED, check_option, shown
from promptcache.reuse import ReusePolicy

P = TypeVar("P", ReusePolicy, None)
DEFAULT_NEW_TOKENS = 256
SEEDS = range(-(2**63), 2**64)
"""What torch's generators take."""


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """A request's options. `generation` holds those that transformers' generation reads."""

    policy: ReusePolicy
    stop: tuple[str, ...]
    seed: int | None
    expected: tuple[str, ...]
    passages: tuple[str, ...]
    notes: tuple[str, ...]
    max_new_tokens: int
    window: int | None
    generation: Mapping[str, Any]

    @classmethod
    def parse(
        cls,
        given: Mapping[str, Any],
        policy: ReusePolicy,
        new_tokens: int = DEFAULT_NEW_TOKENS,
    ) -> RequestOptions:
        """The options of a request; `policy` and `new_tokens` hold where it names none.

        Raises OptionError for an option that is unknown, refused or has a wrong value.
        """
        rest = dict(given)
        parsed = cls(
            policy=checked_policy(rest.pop("reuse", None), policy),
            stop=_stop(rest.pop("stop", None)),
            seed=_seed(rest.pop("seed", None)),
            expected=_texts("expected", rest.pop("expected", None), "document texts"),
            passages=_texts("passages", rest.pop("passages", None), "texts"),
            notes=_texts("notes", rest.pop("notes", None), "texts"),
            max_new_tokens=check_option("max_new_tokens", rest.pop("max_new_tokens", None))
            or new_tokens,
            window=_window(rest.pop("window", None)),
            generation=_generation(rest),
        )
        least = parsed.generation.get("min_new_tokens")
        if least is not None and least > parsed.max_new_tokens:
            raise OptionError(
                f"min_new_tokens={least} is more than max_new_tokens={parsed.max_new_tokens}"
            )
        return parsed


def checked_policy(given: object, default: P) -> ReusePolicy | P:
    """The policy that was given, or the default. OptionError for what is none."""
    if given is None:
        return default
    if not isinstance(given, ReusePolicy):
        raise OptionError(
            f"reuse={given!r} is not a reuse policy; expected for example Modular(), Exact() or "
            "NoReuse() from promptcache"
        )
    return given


def check_settings(namespace: object, chat_template_kwargs: object) -> None:
    """Raise OptionError for a setting of an engine that is not what it must be."""
    if not isinstance(namespace, str):
        raise OptionError(f"namespace={namespace!r} is not a text")
    if chat_template_kwargs is not None and not isinstance(chat_template_kwargs, Mapping):
        raise OptionError(f"chat_template_kwargs={chat_template_kwargs!r} is not a mapping")


def _stop(given: object) -> tuple[str, ...]:
    strings = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(strings, Sequence) or not all(isinstance(s, str) and s for s in strings):
        raise OptionError(f"stop={given!r} is not a string or a list of non-empty strings")
    return tuple(strings)


def _seed(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given not in SEEDS:
        raise OptionError(f"seed={shown(given)} is not a whole number from -2**63 to 2**64-1")
    return given


def _window(given: object) -> int | None:
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise OptionError(f"window={shown(given)} is not a positive number of tokens")
    return given


def _texts(name: str, given: object, what: str) -> tuple[str, ...]:
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise OptionError(f"{name}={shown(given)} is not a list of {what}")
    texts = tuple(given)
    for text in texts:
        if not isinstance(text, str):
            raise OptionError(f"{name}={shown(given)} has {shown(text)}, which is not a text")
    return texts


def _generation(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options that transformers' generation reads, checked and in the form it takes.

    A temperature of 0 says greedy. Whoever gives another option that only sampling reads wants
    sampling, if nothing else is said.
    """
    for name, value in given.items():  # wrong names first: their values say nothing
        if name not in OPTIONS:
            check_option(name, value)
    asked = dict(given)
    cold = isinstance(asked.get("temperature"), int | float) and asked["temperature"] == 0
    if cold and not asked.get("do_sample"):
        asked = {name: value for name, value in asked.items() if name not in SAMPLING}
        asked["do_sample"] = False
    elif any(asked.get(name) is not None for name in SAMPLING):
        asked.setdefault("do_sample", True)
    return {name: check_option(name, value) for name, value in asked.items() if name not in REFUSED}
