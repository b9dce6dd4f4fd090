"""Training computes what the plain model computes, and goes on from a checkpoint identically."""

from pathlib import Path

import pytest
import torch

from promptcache.pocket import pocket_path
from promptcache.pocket.curriculum import STAGES
from promptcache.pocket.data import Encoder, Stage, make_pool
from promptcache.pocket.forward import logits_at
from promptcache.pocket.model import new_model, pocket_config
from promptcache.pocket.schedule import Plan, Position, next_stage, rate_at
from promptcache.pocket.tokenizer import load_tokenizer
from promptcache.pocket.train import Trainer

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


@pytest.mark.parametrize("stage", STAGES)
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
