"""The shape of `pocket`: an ordinary small Llama.

This file knows nothing about training or data.
"""

from __future__ import annotations

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from promptcache.pocket.tokenizer import MAX_LENGTH


def pocket_config(
    tokenizer: PreTrainedTokenizerFast,
    *,
    hidden: int = 256,
    layers: int = 5,
    feed_forward: int = 640,
) -> LlamaConfig:
    """Return the configuration for `tokenizer`; heads have 64 values, two share one K and V."""
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=feed_forward,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        num_key_value_heads=hidden // 128,
        head_dim=64,
        max_position_embeddings=MAX_LENGTH,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def new_model(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """Return a model with fresh weights in float32.

    The embedding begins large, the last norm small in its stead: what layers add would otherwise
    drown which word a token is, and names could not be told apart.
    """
    torch.manual_seed(seed)
    model = LlamaForCausalLM(config).float()
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(50.0)
        model.model.norm.weight.fill_(0.1)
    return model
