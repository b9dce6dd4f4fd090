"""One prompt under one policy in one context, held against its full prefill.

The tokens of the full prefill's greedy answer are given to every other case too, step by step, so
that each step shows what that case would have chosen behind the very same text. Where it would have
chosen another token, it answers once more on its own.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from promptcache.bench.baselines import synchronise
from promptcache.bench.fidelity.flops import Costs
from promptcache.bench.fidelity.questions import Question
from promptcache.bench.fidelity.statistics import agreement, divergence
from promptcache.bench.models import Subject
from promptcache.engine import PromptCache
from promptcache.reply import Reply
from promptcache.reuse import NoReuse, ReusePolicy

GREEDY = {"do_sample": False, "repetition_penalty": 1.0}
"""Options of an answer whose every token is the likeliest."""


@dataclass(frozen=True, slots=True)
class Full:
    """A prompt's full prefill: the logits `[vocabulary]` of the answer's first token, and the
    answer; `prompt` is the whole prompt as text, `ttft` in seconds, `flops` what it cost.
    """

    logits: Tensor
    answer: tuple[int, ...]
    text: str
    prompt: str
    tokens: int
    ttft: float
    flops: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a prompt in one case, against its full prefill.

    `kl` is KL(full || case) of the first token; `top1` the share of the answer's steps at which the
    case would have chosen the same token; `same` says that this is all of them; `text` is the
    case's own answer. `recomputed_share` is of the tokens of modules, `flops_share` and
    `ttft_ratio` of the full prefill's. `tokens` counts the prompt's, as the case has them.
    """

    text: str
    kl: float = 0.0
    top1: float = 1.0
    same: bool = True
    recomputed_share: float = 1.0
    flops_share: float = 1.0
    ttft_ratio: float = 1.0
    ttft: float = 0.0
    tokens: int = 0


def full_prefill(engine: PromptCache, question: Question, costs: Costs) -> Full:
    """The prompt without any reuse, answered greedily."""
    steps = Steps()
    reply = _reply(engine, question, NoReuse(), steps, question.new_tokens)
    tokens = reply.usage.input_tokens
    return Full(
        steps.first,
        reply.token_ids,
        reply.text,
        "".join(span.text for span in reply.trace),
        tokens,
        reply.ttft,
        costs.full(tokens),
    )


def outcome_of_full(full: Full) -> Outcome:
    """The full prefill, held against itself."""
    return Outcome(full.text, ttft=full.ttft, tokens=full.tokens)


def measure(
    engine: PromptCache, question: Question, policy: ReusePolicy, full: Full, costs: Costs
) -> Outcome:
    """The prompt under a policy. Raises UnsupportedModelError where it cannot be served so."""
    steps = Steps(full.answer)
    reply = _reply(engine, question, policy, steps, len(full.answer))
    same = steps.chosen == list(full.answer)
    text = full.text
    if not same:
        text = _reply(engine, question, policy, Steps(), question.new_tokens).text
    usage = reply.usage
    modules = usage.reused_tokens + usage.encoded + usage.recomputed
    return Outcome(
        text,
        divergence(full.logits, steps.first),
        agreement(steps.chosen, full.answer),
        same,
        usage.recomputed / modules if modules else 0.0,
        costs.of(reply) / full.flops,
        reply.ttft / full.ttft,
        reply.ttft,
        usage.input_tokens,
    )


def measure_plain(subject: Subject, full: Full, new_tokens: int) -> Outcome:
    """The same text, tokenised in one piece, through transformers alone."""
    tokenizer, model = subject.tokenizer, subject.model
    begun = full.prompt.startswith(tokenizer.bos_token or "\0")
    synchronise(subject.device)
    start = perf_counter()
    ids = tokenizer.encode(full.prompt, add_special_tokens=not begun)
    [first] = _logits(subject, ids, 1)
    int(first.argmax())
    seconds = perf_counter() - start
    behind = _logits(subject, [*ids, *full.answer[:-1]], len(full.answer))
    chosen = behind.argmax(dim=-1).tolist()
    same = chosen == list(full.answer)
    text = full.text
    if not same:
        row = torch.tensor([ids], device=subject.device)
        answer = model.generate(
            row, attention_mask=torch.ones_like(row), max_new_tokens=new_tokens, **GREEDY
        )
        text = tokenizer.decode(answer[0, len(ids) :], skip_special_tokens=True).strip()
    return Outcome(
        text,
        divergence(full.logits, first),
        agreement(chosen, full.answer),
        same,
        ttft_ratio=seconds / full.ttft,
        ttft=seconds,
        tokens=len(ids),
    )


@dataclass(slots=True)
class Steps:
    """A logits processor that notes which token is best at each step of an answer.

    With an `answer` the tokens that are really chosen are those.
    """

    answer: Sequence[int] | None = None
    chosen: list[int] = field(default_factory=list)
    _first: Tensor | None = None

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[1, vocabulary]`, changed so that a given token is the only one."""
        del ids
        if self._first is None:
            self._first = scores[0].clone()
        self.chosen.append(int(scores[0].max(dim=-1).indices))
        if self.answer is None:
            return scores
        given = torch.full_like(scores, -torch.inf)
        given[0, self.answer[len(self.chosen) - 1]] = 0.0
        return given

    @property
    def first(self) -> Tensor:
        """The logits `[vocabulary]` of the first step."""
        assert self._first is not None
        return self._first


def _reply(
    engine: PromptCache, question: Question, policy: ReusePolicy, steps: Steps, new_tokens: int
) -> Reply:
    options: dict[str, Any] = {"logits_processor": [steps], "max_new_tokens": new_tokens}
    with question.stream(engine, reuse=policy, **options, **GREEDY) as stream:
        for _ in stream:
            pass
        return stream.reply


def _logits(subject: Subject, ids: Sequence[int], last: int) -> Tensor:
    """Those of the last tokens, `[last, vocabulary]`, by the model's own forward."""
    kept: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(subject.model.forward).parameters:
        kept["logits_to_keep"] = last
    row = torch.tensor([list(ids)], device=subject.device)
    with torch.no_grad():
        logits: Tensor = subject.model(input_ids=row, use_cache=False, **kept).logits
    return logits[0, -last:]
