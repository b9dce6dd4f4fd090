"""Questions put to a model under every policy in every context, in turns, prompt by prompt."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from tqdm.auto import tqdm

from promptcache.bench.fidelity.engines import encode, engine_for
from promptcache.bench.fidelity.flops import Costs
from promptcache.bench.fidelity.measure import (
    Full,
    full_prefill,
    measure,
    measure_plain,
    outcome_of_full,
)
from promptcache.bench.fidelity.questions import Question
from promptcache.bench.fidelity.rows import FULL, PLAIN, REORDERED, Answered
from promptcache.bench.models import Subject
from promptcache.bench.orders import Order
from promptcache.decoys import CONTEXTS
from promptcache.engine import PromptCache
from promptcache.errors import OptionError, PromptError, UnsupportedModelError
from promptcache.reuse import NoReuse, ReusePolicy
from promptcache.store.compression import checked_compression

OWN, SHUFFLED = "own", str(Order.SHUFFLED)
"""What rows call the orders in which a sample's documents are asked about."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is held against full prefill: every policy in every context, rounded to what each of
    the `compressions` holds ("" is none).

    `plain` adds transformers alone, on the prompt tokenised in one piece. Raises OptionError for
    an unknown context or compression, and where nothing is left to measure.
    """

    policies: tuple[ReusePolicy, ...]
    contexts: tuple[str, ...] = CONTEXTS
    plain: bool = True
    seed: int = 0
    compressions: tuple[str, ...] = ("",)

    def __post_init__(self) -> None:
        if not self.policies or not self.contexts or not self.compressions:
            raise OptionError("there is nothing to measure without a policy and a context")
        for compression in self.compressions:
            checked_compression(compression)


@dataclass(slots=True)
class Found:
    """What was answered, the policies that the model refuses for a prompt with the reason, and the
    reasons why samples were left out: the model's window has no room for them.
    """

    answered: list[Answered] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)


def run(
    subject: Subject,
    plan: Plan,
    samples: Iterable[Sequence[Question]],
    *,
    count: int | None = None,
    label: str = "",
    progress: bool = True,
) -> Found:
    """Every sample in all its orders, first without reuse, then in each case, in random turns.

    `count` is how many samples there are, for the progress bar. What a policy reuses is encoded
    before it is timed. Raises PromptError where the window has no room for any of the samples.
    """
    trial = _Trial(subject, plan)
    for sample in tqdm(samples, total=count, unit="sample", desc=label, disable=not progress):
        trial.take(sample)
    if not trial.found.answered:
        reason = next(iter(trial.found.left_out), "there are no prompts")
        raise PromptError(f"nothing was measured: {reason}")
    return trial.found


class _Trial:
    """The engines of a plan, and what they have answered so far."""

    def __init__(self, subject: Subject, plan: Plan) -> None:
        self.found = Found()
        self._subject = subject
        self._plan = plan
        self._rng = random.Random(plan.seed)
        kinds = [(context, how) for context in plan.contexts for how in plan.compressions]
        self._engines = {
            (context, how): engine_for(subject, context, len(kinds), how) for context, how in kinds
        }
        self._first = next(iter(self._engines.values()))
        self._costs = Costs.of_model(subject.model, self._first.traits)

    def take(self, sample: Sequence[Question]) -> None:
        """Answer a sample in all its orders, and forget it."""
        try:
            for (context, _), engine in self._engines.items():
                encode(engine, sample[0], self._accepted(), context)
            full = self._answer(OWN, sample[0])
            for question in sample[1:]:
                self._answer(SHUFFLED, question)
                self._add(REORDERED, SHUFFLED, question, full, NoReuse(), self._first)
        except PromptError as error:
            self.found.left_out.append(str(error))
        finally:
            for engine in self._engines.values():
                sample[0].forget(engine)

    def _answer(self, order: str, question: Question) -> Full:
        """Answer a question in full and in every case, in random turns."""
        full = full_prefill(self._first, question, self._costs)
        itself = outcome_of_full(full)
        self.found.answered.append(Answered(question.about, order, FULL, "", itself, itself))
        if self._plan.plain:
            plain = measure_plain(self._subject, full, question.new_tokens)
            self.found.answered.append(Answered(question.about, order, PLAIN, "", plain, itself))
        cases = [
            (policy, kind, engine)
            for kind, engine in self._engines.items()
            for policy in self._accepted()
            if not isinstance(policy, NoReuse)
        ]
        for policy, kind, engine in self._rng.sample(cases, len(cases)):
            self._add(str(policy), order, question, full, policy, engine, *kind)
        return full

    def _add(
        self,
        name: str,
        order: str,
        question: Question,
        full: Full,
        policy: ReusePolicy,
        engine: PromptCache,
        context: str = "",
        compression: str = "",
    ) -> None:
        """Hold a case against a full prefill; where the model refuses the policy, note why."""
        try:
            outcome = measure(engine, question, policy, full, self._costs)
        except (UnsupportedModelError, OptionError) as error:
            self.found.refused[str(policy)] = str(error)
            return
        itself = outcome_of_full(full)
        self.found.answered.append(
            Answered(question.about, order, name, context, outcome, itself, compression)
        )

    def _accepted(self) -> list[ReusePolicy]:
        return [p for p in self._plan.policies if str(p) not in self.found.refused]
