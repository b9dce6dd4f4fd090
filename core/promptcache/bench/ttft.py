"""`promptcache bench ttft`: time to first token, from the string to the token.

promptcache with every policy that is asked for, warm, shuffled, cold and restarted, against
transformers' full prefill, every cache of prefixes at hand, and the limit, all in one run.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import NamedTuple

from promptcache.bench import limit as limits
from promptcache.bench.baselines import Baseline, FullPrefill, PrefixCache, set_fastest_attention
from promptcache.bench.limit import Limit
from promptcache.bench.models import Subject
from promptcache.bench.orders import FIRST, Order, shuffled
from promptcache.bench.prompts import Asked, Form, Library, Pml, Questions, asked, new_engine
from promptcache.bench.restarts import store_left
from promptcache.bench.rounds import (
    Case,
    Sample,
    check_count,
    interleaved,
    median,
    median_stages,
)
from promptcache.bench.rows import Spread, TtftRow
from promptcache.bench.setting import Setting
from promptcache.engine import PromptCache
from promptcache.errors import OptionError
from promptcache.reply import Reply
from promptcache.reuse import Modular, NoReuse, ReusePolicy

OURS = "promptcache"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured: prompts with `documents` of `tokens` tokens, and `new` tokens of question.

    `full_repeats` counts the repeats of what computes whole prompts; 0 leaves that out. Without
    `prefix_cache`, transformers' is left out, which costs a full prefill for a shuffled prompt.
    Raises OptionError for counts that make no sense.
    """

    documents: int = 20
    tokens: int = 256
    new: int = 32
    repeats: int = 5
    full_repeats: int = 3
    policies: tuple[ReusePolicy, ...] = (Modular(),)
    orders: tuple[Order, ...] = tuple(Order)
    forms: tuple[Form, ...] = (Pml(),)
    prefix_cache: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("documents", "tokens", "new", "repeats"):
            check_count(name, getattr(self, name))
        check_count("full_repeats", self.full_repeats, least=0)
        if not self.policies or not self.orders or not self.forms:
            raise OptionError("there is nothing to measure without a policy, an order and a form")


class Key(NamedTuple):
    """What a case is a case of."""

    form: str
    case: str
    policy: str
    order: Order


def measure(
    subject: Subject,
    plan: Plan,
    peers: Sequence[Baseline] = (),
    *,
    run: str = "",
    progress: bool = True,
) -> list[TtftRow]:
    """The rows of a plan on one model, whose own attention is set to its fastest.

    Plans of one `run` make up one curve.

    Raises PromptError where the prompts do not fit into the model's window.
    """
    counting = new_engine(subject)
    library = Library.of(counting.count_tokens, plan.documents, plan.tokens, plan.seed)
    questions = Questions(counting.count_tokens, plan.new, plan.seed)
    attention = set_fastest_attention(subject, counting.token_ids(" ".join(library.documents)))
    cache: list[Baseline] = [PrefixCache(subject)] if plan.prefix_cache else []
    systems: list[Baseline] = [FullPrefill(subject), *cache, *peers]
    trials = [Trial(subject, plan, form, library, questions, systems) for form in plan.forms]
    cases = [case for trial in trials for case in trial.cases()]
    samples = interleaved(
        cases,
        plan.repeats,
        min(plan.full_repeats, plan.repeats),
        random.Random(plan.seed),
        label=f"{plan.documents} x {plan.tokens} tokens",
        progress=progress,
    )
    packages = [package for system in systems for package in system.packages]
    setting = Setting.of(subject, packages)
    return [row for trial in trials for row in trial.rows(samples, setting, attention, run)]


def sweep(plan: Plan, sizes: Sequence[int], window: int | None) -> Iterator[Plan]:
    """The plan for each size, in cached tokens, that the model's window has room for."""
    for size in sizes:
        documents = max(1, size // plan.tokens)
        tokens = size // documents
        if window is None or size + plan.new + 64 + 4 * documents <= window:
            yield replace(plan, documents=documents, tokens=tokens)


class Trial:
    """The cases of one form of prompt, on an engine of its own that has every document encoded."""

    def __init__(
        self,
        subject: Subject,
        plan: Plan,
        form: Form,
        library: Library,
        questions: Questions,
        systems: Sequence[Baseline],
    ) -> None:
        self.form = form
        self.library = library
        self._subject = subject
        self._plan = plan
        self._questions = questions
        self._systems = systems
        self._rng = random.Random(plan.seed)
        self.engine = new_engine(subject)
        form.register(self.engine, library, encode=True)
        warm = self._reply(Modular(), Order.IN_ORDER)
        assert not warm.usage.encoded
        self.module_tokens = warm.usage.reused_tokens
        self._limit = Limit(
            self.engine._runner,
            self.engine.traits,
            warm.usage.reused_tokens,
            warm.usage.computed_tokens,
        )

    def cases(self) -> Iterator[Case[Key]]:
        """Everything that is measured."""
        warm = [order for order in self._plan.orders if order not in FIRST]
        for order in warm:
            for policy in self._plan.policies:
                yield self._ours(policy, order, slow=isinstance(policy, NoReuse))
        first = self._plan.policies[0]
        for order in self._plan.orders:
            if order in FIRST:
                key = self._key(OURS, order, str(first))
                yield Case(key, partial(self._at_first, first, order), slow=True)
        yield Case(self._key(limits.NAME, Order.IN_ORDER), self._at_the_limit)
        for system in self._systems:
            for arranged in warm if system.remembers else [Order.SHUFFLED]:
                slow = arranged is Order.SHUFFLED
                run = self._baseline(system, arranged)
                yield Case(self._key(system.name, arranged), run, slow)

    def rows(
        self, samples: Mapping[Key, Sequence[Sample]], setting: Setting, attention: str, run: str
    ) -> Iterator[TtftRow]:
        """The rows of this form's cases."""
        mine = {key: found for key, found in samples.items() if key.form == self.form.name}
        spreads = {key: Spread.of([s.seconds for s in found]) for key, found in mine.items()}
        full = spreads.get(self._key(FullPrefill.name, Order.SHUFFLED))
        limit = spreads[self._key(limits.NAME, Order.IN_ORDER)].median
        for key, found in mine.items():
            spread = spreads[key]
            yield TtftRow(
                **asdict(setting),
                case=key.case,
                run=run,
                prompt=key.form,
                policy=key.policy,
                order=str(key.order),
                documents=self._plan.documents,
                module_tokens=self.module_tokens,
                cached_tokens=median([sample.cached for sample in found]),
                new_tokens=median([sample.new for sample in found]),
                ttft_seconds=spread.median,
                ttft_low=spread.low,
                ttft_high=spread.high,
                repeats=spread.count,
                full_prefill_ratio=full.median / spread.median if full else None,
                limit_ratio=spread.median / limit,
                stages=median_stages(found),
                attention=attention,
            )

    def prompt(self, order: Order) -> str:
        """A prompt that was not asked before."""
        count = len(self.library.documents)
        places = range(count) if order is Order.IN_ORDER else shuffled(count, self._rng)
        return self.form.prompt(self.library, places, self._questions.next())

    def asked(self, order: Order) -> Asked:
        """A prompt that was not asked before, for baselines."""
        return asked(self.engine, self.form, self.prompt(order))

    def _key(self, case: str, order: Order, policy: str = "") -> Key:
        return Key(self.form.name, case, policy, order)

    def _ours(self, policy: ReusePolicy, order: Order, *, slow: bool) -> Case[Key]:
        key = self._key(OURS, order, str(policy))
        return Case(key, lambda: sample_of(self._reply(policy, order)), slow)

    def _reply(self, policy: ReusePolicy, order: Order, engine: PromptCache | None = None) -> Reply:
        with self.form.stream(engine or self.engine, self.prompt(order), policy, 1) as stream:
            return stream.reply

    def _at_first(self, policy: ReusePolicy, order: Order) -> Sample:
        with store_left(self.engine.store, order) as store:
            engine = new_engine(self._subject, store=store)
            self.form.register(engine, self.library, encode=False)
            assert engine.fingerprint  # worked out once for a model, before its first prompt
            reply = self._reply(policy, order, engine)
        assert order is Order.COLD or not reply.usage.encoded
        return sample_of(reply)

    def _at_the_limit(self) -> Sample:
        return self._limit.measure(self.asked(Order.SHUFFLED).ids)

    def _baseline(self, system: Baseline, order: Order) -> Callable[[], Sample]:
        before = self.asked(Order.IN_ORDER)

        def run() -> Sample:
            system.remember(before)
            return system.first_token(self.asked(order))

        return run


def sample_of(reply: Reply) -> Sample:
    """What a reply says of itself."""
    stages = {str(stage): seconds for stage, seconds in reply.timings.items()}
    return Sample(reply.ttft, reply.usage.reused_tokens, reply.usage.computed_tokens, stages)
