"""`promptcache bench decode`: tokens per second behind a long context, prefill not counted.

promptcache against transformers' `generate` with its default cache, in turns, on the same prompts,
with the same number of tokens.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from time import perf_counter
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.generation.streamers import BaseStreamer

from promptcache.bench.baselines import set_fastest_attention, synchronise
from promptcache.bench.models import Subject
from promptcache.bench.orders import shuffled
from promptcache.bench.prompts import Library, Pml, Questions, asked, new_engine
from promptcache.bench.rounds import Case, Sample, check_count, interleaved
from promptcache.bench.rows import DecodeRow, Spread
from promptcache.bench.setting import Setting
from promptcache.engine import PromptCache
from promptcache.errors import OptionError
from promptcache.reuse import Modular, ReusePolicy

OURS = "promptcache"
THEIRS = "transformers, generate"


@dataclass(frozen=True, slots=True)
class Plan:
    """Answers of `new` tokens behind about `context` tokens, in documents of `tokens` tokens.

    Raises OptionError for counts that make no sense.
    """

    context: int = 5120
    tokens: int = 256
    question: int = 32
    new: int = 64
    repeats: int = 3
    policy: ReusePolicy = field(default_factory=Modular)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("context", "tokens", "question", "repeats"):
            check_count(name, getattr(self, name))
        check_count("new", self.new, least=2)
        if self.context < self.tokens:
            raise OptionError(f"context={self.context} has no room for a document of {self.tokens}")


class Key(NamedTuple):
    """What a case is a case of."""

    case: str
    policy: str


class Ticks(BaseStreamer):  # type: ignore[misc]
    """When each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self._begun = False

    def put(self, value: Tensor) -> None:
        """Count a token; the first call brings the prompt."""
        del value
        if self._begun:
            self.times.append(perf_counter())
        self._begun = True

    def end(self) -> None:
        """Nothing to do."""


def measure(subject: Subject, plan: Plan, *, progress: bool = True) -> list[DecodeRow]:
    """The rows of a plan on one model, whose own attention is set to its fastest."""
    engine = new_engine(subject)
    count = plan.context // plan.tokens
    library = Library.of(engine.count_tokens, count, plan.tokens, plan.seed)
    attention = set_fastest_attention(subject, engine.token_ids(" ".join(library.documents)))
    engine = new_engine(subject)  # of the model with that attention
    form, rng = Pml(), random.Random(plan.seed)
    form.register(engine, library, encode=True)
    questions = Questions(engine.count_tokens, plan.question, plan.seed)

    def of(run: Callable[[PromptCache, Subject, str, Plan], Sample]) -> Callable[[], Sample]:
        return lambda: run(
            engine, subject, form.prompt(library, shuffled(count, rng), questions.next()), plan
        )

    cases = [
        Case(Key(OURS, str(plan.policy)), of(_ours)),
        Case(Key(THEIRS, ""), of(_theirs)),
    ]
    samples = interleaved(
        cases,
        plan.repeats,
        plan.repeats,
        random.Random(plan.seed),
        label="decode",
        progress=progress,
    )
    setting = Setting.of(subject)
    speeds = {
        key: Spread.of([(plan.new - 1) / sample.seconds for sample in found])
        for key, found in samples.items()
    }
    return [
        DecodeRow(
            **asdict(setting),
            case=key.case,
            policy=key.policy,
            context_tokens=samples[key][0].cached + samples[key][0].new,
            output_tokens=plan.new,
            tokens_per_second=speed.median,
            low=speed.low,
            high=speed.high,
            ratio=speed.median / speeds[Key(THEIRS, "")].median,
            repeats=speed.count,
            attention=attention,
        )
        for key, speed in speeds.items()
    ]


def _ours(engine: PromptCache, subject: Subject, prompt: str, plan: Plan) -> Sample:
    """Seconds from the first token to the last."""
    del subject
    stream = Pml().stream(engine, prompt, plan.policy, plan.new)
    start = perf_counter()  # the first token has been chosen
    for _ in stream:
        pass
    seconds = perf_counter() - start
    usage = stream.reply.usage
    assert usage.output_tokens == plan.new
    return Sample(seconds, cached=usage.reused_tokens, new=usage.computed_tokens)


def _theirs(engine: PromptCache, subject: Subject, prompt: str, plan: Plan) -> Sample:
    """Seconds from the first token to the last."""
    ids = torch.tensor([asked(engine, Pml(), prompt).ids], device=subject.device)
    ticks = Ticks()
    with torch.no_grad():
        subject.model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=plan.new,
            do_sample=False,
            streamer=ticks,
        )
    synchronise(subject.device)
    assert len(ticks.times) == plan.new
    return Sample(ticks.times[-1] - ticks.times[0], new=ids.shape[1])
