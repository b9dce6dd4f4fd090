"""Scores of answers, and what is made of many of them."""

from __future__ import annotations

from copy import deepcopy
from math import inf, sqrt

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from promptcache import PromptCache
from promptcache.bench.fidelity.flops import Costs
from promptcache.bench.fidelity.metrics import (
    Metric,
    accuracy,
    best,
    count,
    edit_similarity,
    exact_match,
    f1,
    first_line,
    retrieval,
    rouge_l,
)
from promptcache.bench.fidelity.statistics import (
    agreement,
    bootstrapped,
    divergence,
    paired,
    quantile,
)
from support.words import byte_tokenizer
from support.zoo import model

CLASSES = ("city", "capital city", "person")


@pytest.mark.parametrize(
    ("metric", "answer", "right", "score"),
    [
        (exact_match, " Mira Tollen\n", "Mira Tollen", 1.0),
        (exact_match, "Mira Tollen.", "Mira Tollen", 0.0),
        (f1, "The red house!", "a red car", 0.5),
        (f1, "the", "a", 0.0),
        (f1, "Paris", "Paris, Paris", 2 / 3),
        (rouge_l, "police kill the gunman", "police killed the gunman", 0.75),
        (rouge_l, "the gunman police killed", "police killed the gunman", 0.5),
        (rouge_l, "a b. c d", "c d. a b", 1.0),
        (rouge_l, "the the the cat", "the cat", 1.0),
        (rouge_l, "", "the cat", 0.0),
        (accuracy, "a capital city", "capital city", 1.0),
        (accuracy, "a city or a person", "city", 0.5),
        (accuracy, "a person", "city", 0.0),
        (edit_similarity, "this is a test", "this is a test!", 0.97),
        (edit_similarity, "\n# a comment\nreturn x\nreturn y", "return x", 1.0),
        (edit_similarity, "// nothing else", "return x", 0.0),
        (count, "7 paragraphs, or 8", "7", 0.5),
        (count, "many", "7", 0.0),
        (retrieval, "Paragraph 12", "Paragraph 12", 1.0),
        (retrieval, "12", "段落2", 0.0),
    ],
)
def test_answers_are_scored_as_longbench_scores_them(
    metric: Metric, answer: str, right: str, score: float
) -> None:
    assert metric(answer, right, CLASSES) == pytest.approx(score, abs=1e-6)


def test_the_best_of_several_right_answers_counts() -> None:
    assert best(f1, "red car", ["blue", "a red car", "red"]) == 1.0
    assert best(f1, "red car", []) == 0.0
    assert first_line("\n\nblue\nQuestion: and then?") == "blue"


def test_divergence_is_that_of_the_two_distributions() -> None:
    p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.25, 0.5, 0.25])
    expected = 0.5 * np.log(2) + 0.25 * np.log(0.5)
    assert divergence(p.log() + 3, q.log()) == pytest.approx(expected, abs=1e-7)
    assert divergence(p.log(), p.log() - 1) == pytest.approx(0, abs=1e-12)
    ruled_out = torch.tensor([0.0, 0.0, -inf])
    assert divergence(ruled_out, torch.zeros(3)) == pytest.approx(np.log(1.5))
    assert divergence(torch.zeros(3), ruled_out) == inf


def test_a_paired_interval_has_a_width_even_where_nothing_differs() -> None:
    same = paired([0.0] * 3000)
    assert same.mean == 0 and same.high == -same.low
    assert same.high == pytest.approx(1.96 * sqrt(2 / 3002 / 3002), rel=1e-3)
    assert paired([0.0] * 20).high > 10 * same.high
    lost = paired([-1.0] * 5 + [0.0] * 95)
    assert lost.mean == -0.05 and lost.low < -0.05 < lost.high


def test_a_paired_interval_holds_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    won, lost, held, trials = 0.02, 0.04, 0, 2000
    for _ in range(trials):
        drawn = rng.choice([1.0, -1.0, 0.0], size=200, p=[won, lost, 1 - won - lost])
        interval = paired(drawn.tolist())
        held += interval.low <= won - lost <= interval.high
    assert 0.935 <= held / trials <= 0.98


def test_a_bootstrapped_interval_is_always_the_same_and_widens_with_the_tail() -> None:
    values = [0.0] * 95 + [1.0] * 5
    interval = bootstrapped(values)
    assert interval == bootstrapped(values)
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(0.05)
    narrow = bootstrapped([0.05] * 100)
    assert narrow.high - narrow.low < 1e-12
    assert quantile(values, 0.5) == 0 and quantile(values, 0.99) == 1


def test_agreement_counts_steps() -> None:
    assert agreement([1, 2, 3, 4], [1, 2, 0, 4]) == 0.75


@pytest.mark.parametrize(
    "family", ["llama", "gemma2", "qwen3_moe", "mixtral", "gpt_neox", "falcon_7b_style"]
)
def test_costs_are_the_operations_that_torch_counts(family: str) -> None:
    own = deepcopy(model(family))
    own.config._experts_implementation = "eager"  # torch counts no grouped products
    served = PromptCache(own, byte_tokenizer())
    costs = Costs.of_model(served.model, served.traits)
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        served.model(input_ids=torch.tensor([[5]]), use_cache=False)
    assert costs.full(1) == pytest.approx(counter.get_total_flops(), rel=0.01)


def test_costs_of_parts_add_up() -> None:
    costs = Costs(weights=1000.0, head=50, numbers=8)
    parts = costs.tokens(0, 3) + costs.tokens(3, 10) + costs.tokens(10, 10)
    assert parts + 2 * costs.head == costs.full(10)
    assert costs.tokens(4, 8, 1) == costs.tokens(4, 8) / 4
