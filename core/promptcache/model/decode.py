"""Decode: transformers' own generation on an assembled arena, token by token.

transformers prepares logits processors and stopping criteria; our loop samples the first token
from the prefill's logits, so that no second forward stands before it. Knows token ids, not text.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from copy import copy
from textwrap import shorten
from typing import Any, Literal, Protocol

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

from promptcache.errors import OptionError
from promptcache.model.defaults import OWNER, generation_settings
from promptcache.model.generation import OPTIONS, check_token_ids
from promptcache.model.runner import ModelRunner

_NOTHING_LEFT = (
    "no token is left to choose from: the options (such as suppress_tokens, bad_words_ids or a "
    "very small temperature) leave no token with a finite score, or the model itself gives none"
)

FinishReason = Literal["stop", "length"]


class Following(Protocol):
    """Runs the model over the tokens of one answer as they are chosen."""

    def chose(self, token: int, position: int, *, last: bool) -> None:
        """Take in a token that was chosen; nothing comes after the last."""

    def logits(self) -> Tensor:
        """The logits `[1, vocabulary]` of the token that was taken in last."""

    def leave(self) -> None:
        """Nothing more comes, though no token was the last."""


def decode(
    runner: ModelRunner,
    following: Following,
    prompt: Sequence[int],
    logits: Tensor,
    options: dict[str, Any],
    seed: int | None = None,
) -> Generator[int, None, None]:
    """Yield the token ids of the answer, one at a time.

    `logits` `[1, vocabulary]` are those of the prompt's last token, `following` gives those of the
    answer's. Ends after an end-of-sequence token, which is yielded too, or when a criterion or the
    length says so. A caller that closes the iterator stops the generation. Raises OptionError for
    options, the request's or the model's own, that are refused; a streamer is told of the end
    then, too.
    """
    streamer = options.get("streamer")
    asked = {k: v for k, v in options.items() if k in OPTIONS and k != "streamer"}
    generator = None
    if seed is not None:
        generator = torch.Generator(device=logits.device).manual_seed(seed)

    def loop(
        model: Any,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        **_: Any,
    ) -> Generator[int, None, None]:
        scores = logits
        ids = input_ids
        try:
            while True:
                token = _choose(logits_processor(ids, scores.float()), generation_config, generator)
                ids = torch.cat([ids, token.to(ids.device)], dim=-1)
                if streamer is not None:
                    streamer.put(token.cpu())
                finished = bool(stopping_criteria(ids, None).all())
                following.chose(int(token), ids.shape[1] - 1, last=finished)
                yield int(token)
                if finished:
                    return
                scores = following.logits()
        finally:
            following.leave()
            if streamer is not None:
                streamer.end()

    ids = torch.tensor([list(prompt)], device=runner.device)
    if streamer is not None:
        streamer.put(ids.cpu())
    try:
        return _prepared(runner, ids, logits.shape[-1], loop, asked)
    except BaseException:
        if streamer is not None:
            streamer.end()
        raise


def _prepared(
    runner: ModelRunner, ids: Tensor, vocabulary: int, loop: Any, asked: Mapping[str, Any]
) -> Generator[int, None, None]:
    """What `loop` yields, with the processors and criteria that transformers makes for it."""
    settings = generation_settings(runner.model, asked)
    check_token_ids(asked, vocabulary)
    effective = {**vars(settings), **asked}
    check_token_ids(effective, vocabulary, owner=OWNER)
    decay = "exponential_decay_length_penalty"
    if effective[decay] is not None and effective["eos_token_id"] is None:
        raise OptionError(f"{decay}={effective[decay]!r} needs an eos_token_id, and there is none")
    options = dict(asked)
    room = effective.get("max_new_tokens")
    if room is not None:  # it may be less than was asked for, where the window ends
        if effective["min_new_tokens"] is not None:
            options["min_new_tokens"] = min(effective["min_new_tokens"], room)
        if settings.min_length is not None:
            settings.min_length = min(settings.min_length, ids.shape[1] + room)
    view = copy(runner.model)  # shares everything but this setting with the model
    view.generation_config = settings
    try:
        steps: Generator[int, None, None] = view.generate(
            ids, attention_mask=torch.ones_like(ids), custom_generate=loop, **options
        )
    except torch.OutOfMemoryError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        reason = shorten(str(error), 240, placeholder=" ...")
        raise OptionError(f"transformers refuses the generation options: {reason}") from error
    return steps


def _choose(scores: Tensor, config: GenerationConfig, generator: torch.Generator | None) -> Tensor:
    """The next token, `[1, 1]`. Raises OptionError where no score is left to choose by."""
    if not config.do_sample:
        best, token = scores.max(dim=-1, keepdim=True)
        if not bool(best > -torch.inf):
            raise OptionError(_NOTHING_LEFT)
        return token
    chances = scores.softmax(dim=-1)
    if not bool(chances.isfinite().all()):
        raise OptionError(_NOTHING_LEFT)
    return torch.multinomial(chances, num_samples=1, generator=generator)
