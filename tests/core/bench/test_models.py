"""What benchmarks run on."""

from __future__ import annotations

import pytest
import torch

from promptcache.bench.models import SHAPES, subject
from promptcache.errors import ModelError


def test_a_shape_has_random_weights_says_so_and_is_the_same_each_time() -> None:
    before = torch.get_rng_state()
    one, other = subject("tiny"), subject("Tiny", "float32")
    assert torch.equal(torch.get_rng_state(), before)
    assert one.name == other.name == "tiny shape, random weights"
    assert (one.dtype, other.dtype) == ("bfloat16", "float32")
    again = subject("tiny")
    weights = zip(one.model.parameters(), again.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)
    assert one.model.config.num_hidden_layers == SHAPES["tiny"].layers


@pytest.mark.parametrize("name", ["tiny", "pocket"])
def test_answers_do_not_end_by_themselves(name: str) -> None:
    assert subject(name).model.generation_config.eos_token_id is None


def test_a_model_that_there_is_not_is_refused() -> None:
    with pytest.raises(ModelError, match="there is no model folder"):
        subject("./no-such-model")
