"""What a request may ask for beside its prompt, checked by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from promptcache.errors import OptionError
from promptcache.model.decode import check_options
from promptcache.reuse import ReusePolicy

DEFAULT_NEW_TOKENS = 256


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """A request's options. `generation` holds those that transformers' generation reads."""

    policy: ReusePolicy
    stop: tuple[str, ...]
    seed: int | None
    expected: tuple[str, ...]
    max_new_tokens: int
    generation: Mapping[str, Any]

    @classmethod
    def parse(cls, given: Mapping[str, Any], policy: ReusePolicy) -> RequestOptions:
        """The options of a request; `policy` is the one where it names none.

        Raises OptionError for an option that is unknown, refused or has a wrong value.
        """
        generation = dict(given)
        parsed = cls(
            policy=checked_policy(generation.pop("reuse", None), policy),
            stop=_stop(generation.pop("stop", None)),
            seed=_seed(generation.pop("seed", None)),
            expected=tuple(generation.pop("expected", ())),
            max_new_tokens=_new_tokens(generation.pop("max_new_tokens", None)),
            generation=generation,
        )
        check_options(generation)
        return parsed


def checked_policy(given: object, default: ReusePolicy) -> ReusePolicy:
    """The policy that was given, or the default. OptionError for what is none."""
    if given is None:
        return default
    if not isinstance(given, ReusePolicy):
        raise OptionError(
            f"reuse={given!r} is not a reuse policy; expected for example Modular(), Exact() or "
            "NoReuse() from promptcache"
        )
    return given


def _stop(given: object) -> tuple[str, ...]:
    strings = () if given is None else (given,) if isinstance(given, str) else given
    if not isinstance(strings, Sequence) or not all(isinstance(s, str) and s for s in strings):
        raise OptionError(f"stop={given!r} is not a string or a list of non-empty strings")
    return tuple(strings)


def _seed(given: object) -> int | None:
    if given is not None and (isinstance(given, bool) or not isinstance(given, int)):
        raise OptionError(f"seed={given!r} is not a whole number")
    return given


def _new_tokens(given: object) -> int:
    if given is None:
        return DEFAULT_NEW_TOKENS
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise OptionError(f"max_new_tokens={given!r} is not a positive number of tokens")
    return given
