"""Rows of fidelity and what they are made of, made up for tests of what is done with them."""

from __future__ import annotations

from typing import Any

from core.bench.made import SETTING
from promptcache.bench.fidelity.measure import Outcome
from promptcache.bench.fidelity.questions import About
from promptcache.bench.fidelity.rows import FULL, Answered, FidelityRow, rows_of
from promptcache.bench.setting import Setting


def answered(number: int = 0, **values: Any) -> Answered:
    """A question that both full prefill and `Modular` answer right, but for what is given."""
    about = values.pop("about", About("Who?", "fact", 2, seed=7, number=number, right=("Mira",)))
    usual: dict[str, Any] = {
        "about": about,
        "order": "own",
        "policy": "Modular()",
        "context": "preamble",
        "outcome": Outcome("Mira", 0.01, recomputed_share=0.0, flops_share=0.1, ttft_ratio=0.2),
        "full": Outcome("Mira"),
    }
    return Answered(**usual | values)


def rows(*made: Answered, **settings: Any) -> list[FidelityRow]:
    """The rows of what was answered."""
    return list(rows_of(made, Setting(**SETTING), "a run", **settings))


def row(policy: str = "Modular()", context: str = "preamble", **values: Any) -> FidelityRow:
    """The row of a policy in a context, a fifth as long to the first token as full prefill."""
    outcome = {"recomputed_share": 0.0, "flops_share": 0.1, "ttft_ratio": 0.2, "ttft": 0.002}
    made = Outcome("Mira", **{**outcome, **values})
    [found] = rows(answered(policy=policy, context=context, outcome=made), cases=False)
    return found


def full(**values: Any) -> FidelityRow:
    """The row of full prefill."""
    return row(
        FULL, "", **{"recomputed_share": 1.0, "flops_share": 1.0, "ttft_ratio": 1.0, **values}
    )
