"""The rows of `promptcache check` and `bench fidelity`: one for a policy, a context and a case."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any, ClassVar

from promptcache.bench.fidelity.measure import Outcome
from promptcache.bench.fidelity.metrics import best, exact_match, first_line
from promptcache.bench.fidelity.questions import About
from promptcache.bench.fidelity.statistics import Interval, bootstrapped, paired, quantile
from promptcache.bench.rows import KINDS, Row, read_rows, write_rows
from promptcache.bench.setting import Setting
from promptcache.decoys import CONTEXTS

FULL = "NoReuse()"
"""The policy of full prefill, which has no context."""
PLAIN = "transformers"
"""What rows call plain transformers on the prompt tokenised in one piece."""
REORDERED = "full prefill, reordered"
"""What rows call the full prefill of shuffled documents against that of their own order."""
BASELINES = (FULL, REORDERED, PLAIN)
"""What has no context, since nothing is reused."""
Score = Callable[[About, Outcome], float]
SEED = "seed "
"""How the cases of one seed of several begin."""
ALL = "all"
"""The case of every prompt."""
WORST = 5
"""The prompts that are shown of those where the first token went most wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FidelityRow(Row):
    """How one policy in one context compares with full prefill, prompt by prompt.

    `kl` is the mean of KL(full || policy) of the answer's first token, in nats, with its 95 %
    interval and quantiles. `top1` is the share of the answer's steps, behind full prefill's own
    answer, at which the same token is best; `answers` the share of prompts whose whole answer is
    the same. `exact_match` and `f1` compare answers with the right ones, None where nobody knows
    these; F1 is another metric for LongBench's tasks that have one. Their differences are this
    policy's less full prefill's, with the 95 % interval. `recomputed_share` is of the tokens of
    modules, `flops_share` of a full prefill's operations, None where they are not known;
    `ttft_ratio` is the median of the ratios, prompt by prompt, of the times to the first token.
    `compression` is the one that modules were rounded to, "" where they were not. `kind`,
    `documents`, `wording` and `order` say which prompts: "" and None are all. A sample that was
    asked in two orders counts once, with the mean of the two. `worst` are prompts, the worst first.
    """

    bench: ClassVar[str] = "fidelity"

    run: str
    policy: str
    context: str
    compression: str = ""
    kind: str
    documents: int | None
    wording: str = ""
    order: str
    prompts: int
    seeds: Sequence[int]
    prompt_tokens: float
    kl: float
    kl_low: float
    kl_high: float
    kl_median: float
    kl_p95: float
    kl_p99: float
    top1: float
    answers: float
    exact_match: float | None
    exact_match_difference: float | None
    exact_match_low: float | None
    exact_match_high: float | None
    f1: float | None
    f1_difference: float | None
    f1_low: float | None
    f1_high: float | None
    recomputed_share: float | None
    flops_share: float | None
    ttft_ratio: float
    ttft_seconds: float
    worst: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A question in one order of its documents, and what became of it in one case."""

    about: About
    order: str
    policy: str
    context: str
    outcome: Outcome
    full: Outcome
    compression: str = ""

    @property
    def of(self) -> tuple[str, str, str]:
        """Policy, context and compression."""
        return self.policy, self.context, self.compression


def rows_of(
    answered: Sequence[Answered], setting: Setting, run: str, cases: bool = True
) -> Iterator[FidelityRow]:
    """The rows of what was answered: of all, and, for several `cases`, of each of these."""
    for of in _cases(answered):
        mine = [each for each in answered if each.of == of]
        orders = _different(each.order for each in mine)
        whole = orders[0] if len(orders) == 1 else "both"
        yield _row(mine, setting, run, ALL, order=whole)
        if not cases:
            continue
        if len(orders) > 1:
            for order in orders:
                part = [each for each in mine if each.order == order]
                yield _row(part, setting, run, f"{order} order", order=order)
        for kind in _different(each.about.kind for each in mine):
            part = [each for each in mine if each.about.kind == kind]
            yield _row(part, setting, run, kind, kind=kind, order=whole)
        for count in _different(each.about.documents for each in mine):
            part = [each for each in mine if each.about.documents == count]
            yield _row(part, setting, run, f"{count} documents", documents=count, order=whole)
        wordings = _different(e.about.wording for e in mine)
        for wording in wordings if len(wordings) > 1 else ():
            part = [each for each in mine if each.about.wording == wording]
            yield _row(part, setting, run, wording, wording=wording, order=whole)
        seeds = _different(e.about.seed for e in mine if e.about.seed is not None)
        for seed in seeds if len(seeds) > 1 else ():
            part = [each for each in mine if each.about.seed == seed]
            yield _row(part, setting, run, f"{SEED}{seed}", order=whole)


def read_fidelity(file: Path) -> list[FidelityRow]:
    """The rows of a file. Raises OptionError for a file that holds something else."""
    return [row for row in read_rows(file, FIDELITY) if isinstance(row, FidelityRow)]


def write_fidelity(file: Path, rows: Sequence[FidelityRow], *, append: bool = False) -> None:
    """Write one object per row, as `write_rows` does."""
    write_rows(file, rows, append=append, kinds=FIDELITY)


FIDELITY: Mapping[str, type[Row]] = {**KINDS, FidelityRow.bench: FidelityRow}


def _different(values: Iterable[Any]) -> list[Any]:
    return sorted(set(values))


def _cases(answered: Iterable[Answered]) -> list[tuple[str, str, str]]:
    """Every case: baselines first, then in the order of contexts and policies, and compressions."""

    def rank(case: tuple[str, str, str]) -> tuple[bool, int, str, list[float], str]:
        policy, context, compression = case
        place = CONTEXTS.index(context) if context in CONTEXTS else -1
        kind, _, arguments = policy.partition("(")
        numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", arguments)]
        return policy not in BASELINES, place, kind, numbers, compression

    return sorted({each.of for each in answered}, key=rank)


def _row(
    answered: Sequence[Answered],
    setting: Setting,
    run: str,
    case: str,
    *,
    kind: str = "",
    documents: int | None = None,
    wording: str = "",
    order: str,
) -> FidelityRow:
    samples: dict[tuple[object, ...], list[Answered]] = {}
    for each in answered:
        about = each.about
        sample = about.seed, about.kind, about.number, about.text
        samples.setdefault(sample, []).append(each)
    units = list(samples.values())
    outcomes = [each.outcome for each in answered]
    first = answered[0]
    spread = bootstrapped([mean(each.outcome.kl for each in unit) for unit in units])
    scored = first.about.right != ()
    match = _differences(units, _match) if scored else None
    score = _differences(units, _score) if scored else None
    plain = first.policy == PLAIN
    return FidelityRow(
        **asdict(setting),
        case=case,
        repeats=len(units),
        run=run,
        policy=first.policy,
        context=first.context,
        compression=first.compression,
        kind=kind,
        documents=documents,
        wording=wording,
        order=order,
        prompts=len(answered),
        seeds=_different(e.about.seed for e in answered if e.about.seed is not None),
        prompt_tokens=mean(outcome.tokens for outcome in outcomes),
        kl=spread.mean,
        kl_low=spread.low,
        kl_high=spread.high,
        kl_median=median(outcome.kl for outcome in outcomes),
        kl_p95=quantile([outcome.kl for outcome in outcomes], 0.95),
        kl_p99=quantile([outcome.kl for outcome in outcomes], 0.99),
        top1=mean(outcome.top1 for outcome in outcomes),
        answers=mean(outcome.same for outcome in outcomes),
        exact_match=mean(_match(e.about, e.outcome) for e in answered) if scored else None,
        exact_match_difference=match.mean if match else None,
        exact_match_low=match.low if match else None,
        exact_match_high=match.high if match else None,
        f1=mean(_score(e.about, e.outcome) for e in answered) if scored else None,
        f1_difference=score.mean if score else None,
        f1_low=score.low if score else None,
        f1_high=score.high if score else None,
        recomputed_share=None if plain else mean(o.recomputed_share for o in outcomes),
        flops_share=None if plain else mean(o.flops_share for o in outcomes),
        ttft_ratio=median(outcome.ttft_ratio for outcome in outcomes),
        ttft_seconds=median(outcome.ttft for outcome in outcomes),
        worst=_worst(answered) if case == ALL else (),
    )


def _differences(units: Sequence[Sequence[Answered]], score: Score) -> Interval:
    """A score of the case less that of full prefill, sample by sample."""
    return paired(
        [mean(score(e.about, e.outcome) - score(e.about, e.full) for e in unit) for unit in units]
    )


def _match(about: About, outcome: Outcome) -> float:
    return best(exact_match, _shown(about, outcome), about.right)


def _score(about: About, outcome: Outcome) -> float:
    return best(about.metric, _shown(about, outcome), about.right, about.classes)


def _shown(about: About, outcome: Outcome) -> str:
    return first_line(outcome.text) if about.first_line else outcome.text


def _worst(answered: Sequence[Answered]) -> list[dict[str, Any]]:
    """The prompts whose first token went most wrong."""
    ranked = sorted(answered, key=lambda each: -each.outcome.kl)[:WORST]
    return [
        {
            "seed": each.about.seed,
            "number": each.about.number,
            "kind": each.about.kind,
            "documents": each.about.documents,
            "wording": each.about.wording,
            "order": each.order,
            "question": each.about.text,
            "right": list(each.about.right),
            "full_prefill": each.full.text,
            "answer": each.outcome.text,
            "kl": each.outcome.kl,
        }
        for each in ranked
        if each.outcome.kl > 0
    ]
