"""Training computes what the plain model computes, and goes on from a checkpoint identically."""

import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from promptcache.pocket import pocket_path, varied
from promptcache.pocket.curriculum import REVISION, STAGES
from promptcache.pocket.data import Encoder, Stage, make_pool
from promptcache.pocket.evaluate import load
from promptcache.pocket.export import export
from promptcache.pocket.forward import logits_at
from promptcache.pocket.model import new_model, pocket_config
from promptcache.pocket.prompts import WORDINGS
from promptcache.pocket.schedule import AGAIN, Plan, Position, next_stage, rate_at
from promptcache.pocket.tokenizer import load_tokenizer
from promptcache.pocket.train import Trainer, run, start

TINY = Plan(tokens=20_000, batch_tokens=600, hidden=128, layers=2, feed_forward=128, warm_up=3)


def test_the_training_forward_gives_the_plain_models_logits() -> None:
    tokenizer = load_tokenizer(pocket_path())
    model = new_model(pocket_config(tokenizer, hidden=128, layers=2, feed_forward=192), 3)
    ids = torch.randint(7, len(tokenizer), (3, 300))
    rows, columns = torch.tensor([0, 1, 2, 2]), torch.tensor([5, 299, 0, 280])
    expected = model(input_ids=ids).logits[rows, columns]
    got = logits_at(model, ids, rows, columns, torch.float32)
    assert torch.allclose(got, expected, atol=1e-5)


def test_training_goes_on_identically_from_a_checkpoint(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(pocket_path())
    whole = Trainer(tokenizer, TINY)
    for _ in range(12):
        whole.train_step()
    first = Trainer(tokenizer, TINY)
    for _ in range(7):
        first.train_step()
    first.save(tmp_path)
    second = Trainer(tokenizer, TINY)
    assert second.load(tmp_path)
    for _ in range(5):
        second.train_step()
    assert second.position == whole.position
    expected = whole.model.state_dict()
    for name, tensor in second.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_without_a_checkpoint_training_begins_at_the_beginning(tmp_path: Path) -> None:
    trainer = Trainer(load_tokenizer(pocket_path()), TINY)
    assert not trainer.load(tmp_path)
    assert trainer.position == Position()


@pytest.mark.parametrize("stage", [*STAGES, *REVISION])
def test_batches_hold_answers_and_stay_within_their_length(stage: Stage) -> None:
    encoder = Encoder(load_tokenizer(pocket_path()))
    for batch in make_pool(encoder, 1, 1, stage, 2048, batches=2):
        assert batch.ids.shape == batch.weights.shape == batch.answer.shape
        assert batch.ids.shape[1] <= -(-stage.max_length // 16) * 16
        assert (batch.weights[:, 0] == 0).all()
        assert (batch.weights[batch.answer > 0] > 0).all()


def test_the_rate_rises_stays_and_falls() -> None:
    plan = Plan(tokens=1000, decay_share=0.5, warm_up=10)
    assert rate_at(plan, Position(step=4)) == 0.5
    assert rate_at(plan, Position(step=50, tokens=400)) == 1.0
    assert rate_at(plan, Position(step=50, tokens=750)) == 0.5
    assert rate_at(plan, Position(step=50, tokens=1000)) == plan.floor


def test_a_stage_ends_when_it_is_mastered_or_its_time_has_come() -> None:
    plan = Plan(stages=(10, 20, 30), skill=0.8)
    assert next_stage(plan, Position(tokens=5, skill=0.5)) == 0
    assert next_stage(plan, Position(tokens=5, skill=0.9)) == 1
    assert next_stage(plan, Position(tokens=10, skill=0.5)) == 1
    assert next_stage(plan, Position(tokens=99, stage=3, skill=0.9)) == 3


def test_the_last_stage_begins_when_the_rate_falls_and_not_before() -> None:
    last = len(STAGES) - 1
    plan = Plan(tokens=1000, decay_share=0.5, stages=(10, 20, 30), skill=0.8)
    assert next_stage(plan, Position(tokens=499, stage=last - 1, skill=1.0)) == last - 1
    assert next_stage(plan, Position(tokens=500, stage=0, skill=0.0)) == last


def test_a_run_that_is_told_to_stop_saves_says_so_and_goes_on_to_its_end_later(
    tmp_path: Path,
) -> None:
    tokenizer = load_tokenizer(pocket_path())
    stopping = Trainer(tokenizer, replace(TINY, tokens=2_000))
    take_step = stopping.train_step

    def stopped_after_one() -> dict[str, float]:
        os.kill(os.getpid(), signal.SIGTERM)
        return take_step()

    stopping.train_step = stopped_after_one  # type: ignore[method-assign]
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert not run(stopping, tmp_path)
        later = Trainer(tokenizer, replace(TINY, tokens=2_000))
        assert later.load(tmp_path)
        assert later.position.step == 1
        assert run(later, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert later.position.tokens >= 2_000


def test_what_was_exported_is_gone_over_once_more(tmp_path: Path) -> None:
    plan = replace(AGAIN, tokens=1_500, batch_tokens=600)
    assert next_stage(plan, Position()) == 0 and rate_at(plan, Position(step=200)) == 1
    assert start(tmp_path / "run", plan, weights=pocket_path())
    export(tmp_path / "run", tmp_path / "made")
    before, after = (load(folder)[0].state_dict() for folder in (pocket_path(), tmp_path / "made"))
    moved = [float((after[name] - before[name]).abs().max()) for name in before]
    assert 0 < max(moved) < 0.1, "a few steps away from where it began"
    seen = (AGAIN.before + plan.tokens) // 1_000_000
    assert f"from nothing on {seen} M tokens" in (tmp_path / "made" / "README.md").read_text()


def test_rules_are_of_many_marks_and_none_is_held_out_for_testing() -> None:
    rng = np.random.default_rng(5)
    held_out = ["\n***\n", "\n==========\n"]
    assert all(any(rule in "\n" + w.user + w.joiner for w in WORDINGS) for rule in held_out)
    seen: set[str] = set()
    for number in range(300):
        wording = varied.varied_wording(rng, bool(number % 2), rules=1.0)
        text = "\n" + wording.system + "\n" + wording.user + "\n" + wording.joiner
        assert text.count("{context}") == text.count("{question}") == 1
        assert not any(rule in text for rule in held_out)
        seen |= {mark for mark in varied.MIXED if mark in text}
    assert seen == set(varied.MIXED)


def test_no_part_of_a_wording_put_together_at_random_is_held_out_for_testing() -> None:
    held_out = [wording for wording in WORDINGS if wording.held_out]
    texts = [part for w in held_out for part in (w.system, w.user, w.header, w.joiner)]
    parts = (
        *varied.INSTRUCTIONS, *varied.HEADINGS, *varied.LEADS, *varied.TAILS, *varied.HEADERS,
        *varied.REMARKS_BEFORE, *varied.REMARKS_AFTER, *varied.CLOSINGS,
    )  # fmt: skip
    told = [part.strip() for part in parts if any(char.isalpha() for char in part.strip("{nitle}"))]
    assert [part for part in told if any(part in text for text in texts)] == []


def test_wordings_put_together_at_random_hold_context_and_question_once_each() -> None:
    rng = np.random.default_rng(3)
    for number in range(400):
        wording = varied.varied_wording(rng, bool(number % 2), remarks=number % 3 / 2)
        whole = wording.system + wording.user
        assert whole.count("{context}") == whole.count("{question}") == 1
        assert "{question}" in wording.user
        assert wording.asked_first == bool(number % 2)
