"""What benchmarks run on: any model by name, or a named shape with random weights.

Random weights cost what trained ones cost; what such a model says is of no matter here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from promptcache.errors import ModelError, OptionError, valid
from promptcache.model.load import DTYPES, load, load_tokenizer

WINDOW = 131_072
"""Tokens that the window of a random model holds."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of a Llama: `heads` share `kv_heads` of `head_dim` dimensions each."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocabulary: int
    tied: bool = True


SHAPES = {
    "tiny": Shape(24, 32, 1, 1, 32, 64, 1_536),
    "0.4b": Shape(24, 1024, 16, 8, 64, 4096, 32_000),
    "1.2b": Shape(16, 2048, 32, 8, 64, 8192, 128_256),
    "8b": Shape(32, 4096, 32, 8, 128, 14_336, 128_256, tied=False),
}
"""1.2 B and 8 B are the shapes of Llama 3.2 1B and Llama 3.1 8B; 0.4 B is nobody's.

"tiny" has as many weight tensors as 0.4 B, for what does not depend on their sizes.
"""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that is measured; `name` says so where its weights are random."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """Where it is."""
        device: torch.device = self.model.device
        return device

    @property
    def dtype(self) -> str:
        """What its weights are, such as "bfloat16"."""
        return str(self.model.dtype).removeprefix("torch.")


def subject(
    name: str, dtype: str = "bfloat16", device: str | None = None, *, endless: bool = True
) -> Subject:
    """The model of a name: a shape of SHAPES, "pocket", a folder, or a hub name.

    The answers of an `endless` one never end by themselves, so that every one has as many tokens
    as were asked for.
    Raises ModelError for a model that cannot be loaded, OptionError for an unknown dtype.
    """
    if dtype not in DTYPES:
        raise OptionError(f"unknown dtype {dtype!r}{valid(dtype, DTYPES)}")
    if (shape := SHAPES.get(name.lower())) is None:
        model, tokenizer = load(name, dtype=dtype, device=device)
        found = Subject(name.rstrip("/").rsplit("/", 1)[-1], model, tokenizer)
    else:
        tokenizer = load_tokenizer("pocket")
        chosen = torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)
        model = random_llama(shape, chosen, device or "cpu", tokenizer)
        found = Subject(f"{name.lower()} shape, random weights", model, tokenizer)
    if endless:
        found.model.generation_config.eos_token_id = None
    return found


def random_llama(
    shape: Shape, dtype: torch.dtype, device: str, tokenizer: PreTrainedTokenizerBase
) -> PreTrainedModel:
    """A Llama of this shape, with the same weights each time.

    Raises ModelError for a device that cannot be used.
    """
    config = LlamaConfig(
        vocab_size=max(shape.vocabulary, len(tokenizer)),
        hidden_size=shape.hidden,
        intermediate_size=shape.feed_forward,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=shape.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=None,
        pad_token_id=None,
    )
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise ModelError(f"device {device!r} cannot be used: {first}") from error
    with torch.random.fork_rng(), _default_dtype(dtype), torch.device(device):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    return model.eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
