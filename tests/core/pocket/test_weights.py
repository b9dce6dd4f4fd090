"""The weights that ship load with transformers alone, are small, and answer unseen questions."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from promptcache.pocket import pocket_path
from promptcache.pocket.evaluate import evaluate, load, make_cases
from promptcache.pocket.evaluate import main as evaluated

LIMIT = 12_000_000
RIGHT = 36
"""Of 40 unseen questions, as the project promises."""


def test_the_weights_load_and_are_small() -> None:
    model = AutoModelForCausalLM.from_pretrained(pocket_path())
    assert isinstance(model, LlamaForCausalLM)
    assert model.dtype == torch.bfloat16
    assert (pocket_path() / "model.safetensors").stat().st_size <= LIMIT


def test_the_model_stops_at_the_end_token() -> None:
    model = AutoModelForCausalLM.from_pretrained(pocket_path())
    tokenizer = AutoTokenizer.from_pretrained(pocket_path())
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|end|>"


def test_unseen_questions_are_answered() -> None:
    model, tokenizer = load(pocket_path())
    results = evaluate(model, tokenizer, make_cases(tokenizer, 40, seed=77))
    assert sum(result.right for result in results) >= RIGHT


def test_figures_are_written_for_the_model_card(tmp_path: Path) -> None:
    rows, figures = tmp_path / "rows.jsonl", tmp_path / "figures.md"
    evaluated(pocket_path(), rows, 4, 2, 77, figures)
    said = [json.loads(line) for line in rows.read_text().splitlines()]
    assert len(said) == 6
    text = figures.read_text()
    right = sum(row["right"] for row in said[:4]) / 4
    assert f"| all |  | 4 | {right:.3f} |" in text and "| two documents |  | 2 |" in text
    assert "on 4 unseen samples" in text and "and on 2 questions that need two" in text
