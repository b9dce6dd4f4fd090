"""The options of generation: which there are, what values they take, what is refused by name.

Knows names and values only, neither a model nor its config.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from numbers import Integral, Real
from typing import Any

from promptcache.errors import OptionError, valid

MOST_NEW_TOKENS = 1_000_000

REFUSED = {
    "assistant_early_exit": "assisted generation",
    "assistant_model": "assisted generation",
    "cache_implementation": "another cache than promptcache's own",
    "constraints": "constrained beams",
    "custom_generate": "a custom decoding loop",
    "dola_layers": "DoLa decoding",
    "force_words_ids": "constrained beams",
    "guidance_scale": "classifier-free guidance",
    "inputs_embeds": "embeddings as a prompt",
    "num_beam_groups": "beam search",
    "num_beams": "beam search",
    "num_return_sequences": "several answers to one prompt",
    "output_attentions": "returning attention weights",
    "output_hidden_states": "returning hidden states",
    "output_scores": "returning scores",
    "past_key_values": "another cache than promptcache's own",
    "penalty_alpha": "contrastive search",
    "prompt_lookup_num_tokens": "prompt lookup decoding",
    "return_dict_in_generate": "transformers' own output objects",
    "token_healing": "token healing",
    "use_mtp": "multi-token prediction",
}
"""What transformers can do and promptcache refuses, by name, with what it would be."""

ONE_ASKS_FOR_NOTHING = {"guidance_scale", "num_beam_groups", "num_beams", "num_return_sequences"}


@dataclass(frozen=True, slots=True)
class Values:
    """The values that an option takes: in words, and as a reader that gives them one form.

    `read` raises ValueError or OverflowError for a value that is none of them.
    """

    words: str
    read: Callable[[Any], Any]


def check_option(name: str, value: object, *, owner: str = "") -> Any:
    """The option's value in the form that transformers takes; None stays None.

    Raises OptionError for a name that is unknown or refused and for a value that is not valid.
    `owner` says whose option it is where it is not the request's.
    """
    if name in REFUSED:
        if asks_for_nothing(name, value):
            return value
        raise OptionError(
            f"{owner}{name}={shown(value)} asks for {REFUSED[name]}, which promptcache does not "
            f"support{'; set it to None there' if owner else ''}"
        )
    if name not in OPTIONS:
        raise OptionError(f"unknown generation option {name!r}{valid(name, OPTIONS)}")
    if value is None:
        return None
    try:
        return OPTIONS[name].read(value)
    except (ValueError, OverflowError):
        hint = "; for greedy answers give 0 or do_sample=False" if name == "temperature" else ""
        raise OptionError(
            f"{owner}{name}={shown(value)} is not {OPTIONS[name].words}{hint}"
        ) from None


def asks_for_nothing(name: str, value: object) -> bool:
    """Whether a refused option has a value with which it would change nothing."""
    if value is None:
        return True
    if not isinstance(value, int | float):
        return False
    return value == 0 or (value == 1 and name in ONE_ASKS_FOR_NOTHING)


def check_token_ids(options: Mapping[str, Any], vocabulary: int, *, owner: str = "") -> None:
    """Raise OptionError for an option with a token id that is not below `vocabulary`."""
    for name in ("bad_words_ids", "forced_eos_token_id", "sequence_bias"):
        highest = max(_ids_in(options.get(name)), default=0)
        if highest >= vocabulary:
            raise OptionError(
                f"{owner}{name}={shown(options[name])} has token id {highest}; the model's "
                f"vocabulary has the ids from 0 to {vocabulary - 1}"
            )


def shown(value: object) -> str:
    """A value in a message: on one line, and not too long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:76]} ..."


def _number(accepts: Callable[[float], bool]) -> Callable[[object], float]:
    def read(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise ValueError
        number = float(value)
        if not isfinite(number) or not accepts(number):
            raise ValueError
        return number

    return read


def _whole(least: int, most: int | None = None) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, Integral):
            raise ValueError
        number = int(value)
        if number < least or (most is not None and number > most):
            raise ValueError
        return number

    return read


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


_token = _whole(0)


def _tokens(value: object) -> list[int]:
    if not isinstance(value, Sequence):
        raise ValueError
    return [_token(token) for token in value]


def _some_tokens(value: object) -> int | list[int]:
    if isinstance(value, Integral):
        return _token(value)
    tokens = _tokens(value)
    if not tokens:
        raise ValueError
    return tokens


def _words(value: object) -> list[list[int]]:
    if not isinstance(value, Sequence):
        raise ValueError
    words = [_tokens(word) for word in value]
    if not words or not all(words):
        raise ValueError
    return words


def _biases(value: object) -> list[list[Any]]:
    pairs = list(value.items()) if isinstance(value, Mapping) else value
    if not isinstance(pairs, Sequence) or not pairs:
        raise ValueError
    if not all(isinstance(pair, Sequence) and len(pair) == 2 for pair in pairs):
        raise ValueError
    for word, bias in pairs:
        if not _tokens(word) or isinstance(bias, bool) or not isinstance(bias, Real) or isnan(bias):
            raise ValueError
    return [[_tokens(word), float(bias)] for word, bias in pairs]


def _decay(value: object) -> tuple[int, float]:
    if not isinstance(value, Sequence) or len(value) != 2:
        raise ValueError
    return _token(value[0]), _positive(value[1])


def _callables(value: object) -> object:
    if not isinstance(value, Sequence) or not all(callable(item) for item in value):
        raise ValueError
    return value


def _streamer(value: object) -> object:
    if not all(callable(getattr(value, name, None)) for name in ("put", "end")):
        raise ValueError
    return value


def _ids_in(value: object) -> Iterator[int]:
    """The token ids in an option's value, however deep; numbers that are none are floats."""
    if isinstance(value, Mapping):
        value = list(value)
    if isinstance(value, int):
        yield value
    elif isinstance(value, Sequence):
        for item in value:
            yield from _ids_in(item)


_positive = _number(lambda number: number > 0)
_POSITIVE = Values("a number above 0", _positive)
_CUTOFF = Values("a number from 0 to below 1", _number(lambda number: 0 <= number < 1))
_SHARE = Values("a number from 0 to 1", _number(lambda number: 0 <= number <= 1))
_COUNT = Values("a whole number from 0", _whole(0))
_FLAG = Values("True or False", _flag)
_TOKENS = Values("a token id or a list of them", _some_tokens)

OPTIONS = {
    "bad_words_ids": Values("a list of lists of token ids", _words),
    "do_sample": _FLAG,
    "encoder_repetition_penalty": _POSITIVE,
    "eos_token_id": _TOKENS,
    "epsilon_cutoff": _CUTOFF,
    "eta_cutoff": _CUTOFF,
    "exponential_decay_length_penalty": Values(
        "a pair of a whole number of tokens and a factor above 0", _decay
    ),
    "forced_eos_token_id": _TOKENS,
    "logits_processor": Values("a list of callables, such as LogitsProcessorList", _callables),
    "max_new_tokens": Values(
        f"a positive number of tokens up to {MOST_NEW_TOKENS:,}", _whole(1, MOST_NEW_TOKENS)
    ),
    "min_new_tokens": _COUNT,
    "min_p": _SHARE,
    "no_repeat_ngram_size": _COUNT,
    "pad_token_id": Values("a token id", _token),
    "renormalize_logits": _FLAG,
    "repetition_penalty": _POSITIVE,
    "sequence_bias": Values(
        "a dict from tuples of token ids to numbers, or a list of such pairs", _biases
    ),
    "stopping_criteria": Values("a list of callables, such as StoppingCriteriaList", _callables),
    "streamer": Values("an object with the methods put and end", _streamer),
    "suppress_tokens": Values("a list of token ids", _tokens),
    "temperature": _POSITIVE,
    "top_k": _COUNT,
    "top_p": _SHARE,
    "typical_p": Values("a number above 0, up to 1", _number(lambda number: 0 < number <= 1)),
}
"""The options of transformers' generation that are supported, with their values."""
