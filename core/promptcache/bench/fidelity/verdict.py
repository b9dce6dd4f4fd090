"""What to make of a check: which policies keep a bound, and which of the fastest is nearest."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from promptcache.bench.fidelity.rows import ALL, BASELINES, FULL, PLAIN, FidelityRow
from promptcache.bench.fidelity.tables import ROUNDING, policy
from promptcache.bench.tables import duration
from promptcache.errors import OptionError

NEAR = 0.1
"""By how much longer than the fastest a case may take and count as equally fast: times vary."""


@dataclass(frozen=True, slots=True)
class Bound:
    """How near to full prefill is near enough: `kl` in nats at most, shares at least.

    Raises OptionError for numbers that no measurement could be held against.
    """

    kl: float = 0.02
    top1: float = 0.98
    answers: float = 0.95

    def __post_init__(self) -> None:
        if not self.kl >= 0:
            raise OptionError(f"max-kl={self.kl} is not valid; expected 0 or more")
        for name, share in (("min-top1", self.top1), ("min-answers", self.answers)):
            if not 0 <= share <= 1:
                raise OptionError(f"{name}={share} is not valid; expected a share from 0 to 1")

    def __str__(self) -> str:
        return (
            f"a mean KL of at most {self.kl:g}, the same token at {self.top1:.0%} of steps and the "
            f"same answer to {self.answers:.0%} of prompts, at least"
        )

    def kept_by(self, row: FidelityRow) -> bool:
        """Whether what was measured is within the bound."""
        return row.kl <= self.kl and row.top1 >= self.top1 and row.answers >= self.answers


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of the measured cases keep the bound, the fastest first, and which do not."""

    bound: Bound
    kept: Sequence[FidelityRow]
    missed: Sequence[FidelityRow]
    refused: Mapping[str, str]
    plain: FidelityRow | None

    @classmethod
    def of(
        cls, rows: Iterable[FidelityRow], bound: Bound, refused: Mapping[str, str] | None = None
    ) -> Verdict:
        """The verdict on the rows of all prompts; `refused` are policies, each with the reason.

        One that was refused for some prompts only was not measured on the others' terms: it is
        neither kept nor missed.
        """
        no = refused or {}
        whole = sorted((row for row in rows if row.case == ALL), key=lambda row: row.ttft_ratio)
        ours = [row for row in whole if row.policy == FULL or row.policy not in {*BASELINES, *no}]
        return cls(
            bound,
            [row for row in ours if bound.kept_by(row)],
            [row for row in ours if not bound.kept_by(row)],
            no,
            next((row for row in whole if row.policy == PLAIN), None),
        )

    @property
    def recommended(self) -> FidelityRow | None:
        """The nearest to full prefill of the fastest that keep the bound; it always does itself."""
        if not self.kept:
            return None
        fast = [row for row in self.kept if row.ttft_ratio <= self.kept[0].ttft_ratio * (1 + NEAR)]
        return min(fast, key=lambda row: row.kl)

    def lines(self) -> Iterator[str]:
        """The verdict in sentences."""
        row = next(iter((*self.kept, *self.missed)))
        prompts = "prompt" if row.prompts == 1 else "prompts"
        yield (
            f"The bound: {self.bound}; measured on {row.prompts} {prompts} of "
            f"{row.prompt_tokens:.0f} tokens on average."
        )
        if kept := [named(row) for row in self.kept if row.policy != FULL]:
            yield f"Kept by {'; '.join(kept)}."
        if self.missed:
            yield f"Not kept by {'; '.join(map(_reason, self.missed))}."
        for reason, policies in self._refusals():
            yield f"Refused: {'; '.join(policies)}. {reason}"
        if self.plain is not None:
            yield _in_one_piece(self.plain, self.bound)
        if (best := self.recommended) is not None:
            yield f"Recommended: {_advice(best)}"

    def _refusals(self) -> Iterator[tuple[str, list[str]]]:
        """Each reason once, as it was given first, with the policies that it was given for."""
        found: dict[str, tuple[str, list[str]]] = {}
        for refused, reason in sorted(self.refused.items()):
            same = reason.removeprefix(refused.partition("(")[0])
            found.setdefault(same, (reason, []))[1].append(refused)
        yield from found.values()


def named(row: FidelityRow) -> str:
    """A case by its policy and its context."""
    return f"{policy(row)} {row.context}".rstrip()


def _reason(row: FidelityRow) -> str:
    return (
        f"{named(row)} (KL {row.kl:.2g}, same token {row.top1:.1%}, same answer {row.answers:.0%})"
    )


def _in_one_piece(row: FidelityRow, bound: Bound) -> str:
    """What it changes that modules are tokenised apart."""
    if row.kl < ROUNDING and row.answers == 1:
        return "Tokenising each module apart changes nothing: transformers says the same."
    much = "little" if bound.kept_by(row) else "more than the bound allows"
    return (
        f"Tokenising each module apart changes {much}: against transformers on the prompt in one "
        f"piece, KL {row.kl:.2g}, same token {row.top1:.1%}, same answer {row.answers:.0%}."
    )


def _advice(row: FidelityRow) -> str:
    if row.policy == FULL:
        return (
            "reuse=NoReuse(), which computes every prompt in full: nothing that is faster keeps "
            "the bound."
        )
    return (
        f"reuse={row.policy}, context={row.context!r}: the first token after "
        f"{duration(row.ttft_seconds)}, {row.ttft_ratio:.2f} of the time of a full prefill."
    )
