"""Tiny random models of every family that promptcache serves, and of some that it refuses."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

VOCAB = 288
SMALL: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
WINDOW = 8


def _config(name: str, **kwargs: Any) -> Any:
    return getattr(transformers, name)(**kwargs)


def _rope(kind: str, **kwargs: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **kwargs}}


YARN = _rope("yarn", factor=4.0, original_max_position_embeddings=64)
LLAMA3 = _rope(
    "llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
    original_max_position_embeddings=64,
)  # fmt: skip
HYBRID = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]}

FAMILIES: dict[str, Callable[[], Any]] = {
    "llama": lambda: _config("LlamaConfig", **SMALL),
    "llama_linear": lambda: _config("LlamaConfig", **SMALL, **_rope("linear", factor=2.0)),
    "llama_llama3": lambda: _config("LlamaConfig", **SMALL, **LLAMA3),
    "llama_yarn": lambda: _config("LlamaConfig", **SMALL, **YARN),
    "mistral": lambda: _config("MistralConfig", **SMALL, sliding_window=None),
    "mistral_windowed": lambda: _config("MistralConfig", **SMALL, sliding_window=WINDOW),
    "mixtral": lambda: _config("MixtralConfig", **SMALL, **MOE, sliding_window=WINDOW),
    "qwen2": lambda: _config("Qwen2Config", **SMALL),
    "qwen2_windowed": lambda: _config(
        "Qwen2Config", **SMALL, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: _config("Qwen3Config", **SMALL, head_dim=16),
    "qwen3_moe": lambda: _config(
        "Qwen3MoeConfig", **SMALL, head_dim=16, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=24,
    ),
    "phi3": lambda: _config("Phi3Config", **SMALL, sliding_window=None),
    "phi3_windowed": lambda: _config("Phi3Config", **SMALL, sliding_window=WINDOW),
    "gemma2": lambda: _config("Gemma2Config", **SMALL, head_dim=16, sliding_window=WINDOW),
    "gemma3": lambda: _config(
        "Gemma3TextConfig", **SMALL, **HYBRID, head_dim=16, sliding_window=WINDOW
    ),
    "falcon_rotary": lambda: _config(
        "FalconConfig", **_without(SMALL, "intermediate_size", "num_key_value_heads"),
        alibi=False, new_decoder_architecture=True, num_kv_heads=2, bias=False,
    ),
    "falcon_7b_style": lambda: _config(
        "FalconConfig", **_without(SMALL, "intermediate_size", "num_key_value_heads"),
        alibi=False, multi_query=True, new_decoder_architecture=False, bias=False,
    ),
    "falcon_alibi": lambda: _config(
        "FalconConfig", **_without(SMALL, "intermediate_size", "num_key_value_heads"),
        alibi=True, multi_query=False, new_decoder_architecture=False, bias=True,
        parallel_attn=False,
    ),
    "mpt": lambda: _config(
        "MptConfig", vocab_size=VOCAB, d_model=32, n_heads=4, n_layers=3, expansion_ratio=2,
        max_seq_len=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
    "bloom": lambda: _config(
        "BloomConfig", vocab_size=VOCAB, hidden_size=32, n_layer=3, n_head=4, bos_token_id=1,
        eos_token_id=2, pad_token_id=0,
    ),
    "gpt_neox": lambda: _config(
        "GPTNeoXConfig", **_without(SMALL, "num_key_value_heads"), rotary_pct=0.5
    ),
    "gptj": lambda: _config(
        "GPTJConfig", vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, rotary_dim=4,
        n_positions=1024, bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
    "cohere": lambda: _config("CohereConfig", **SMALL),
    "glm4": lambda: _config("Glm4Config", **SMALL, head_dim=16),
    "olmo2": lambda: _config("Olmo2Config", **SMALL),
    "stablelm": lambda: _config("StableLmConfig", **SMALL),
    "granite": lambda: _config("GraniteConfig", **SMALL),
    "smollm3": lambda: _config("SmolLM3Config", **SMALL, no_rope_layer_interval=2),
    "gpt_oss": lambda: _config(
        "GptOssConfig", **SMALL, **MOE, head_dim=16, sliding_window=WINDOW,
        layer_types=HYBRID["layer_types"],
    ),
}  # fmt: skip

LONGROPE = _rope(
    "longrope", factor=4.0, original_max_position_embeddings=64,
    short_factor=[1.0] * 4, long_factor=[3.0] * 4,
)  # fmt: skip
LINEAR: dict[str, Callable[[], Any]] = {
    "qwen3_next": lambda: _config(
        "Qwen3NextConfig", **SMALL, head_dim=16, linear_num_value_heads=4, linear_num_key_heads=2,
        linear_key_head_dim=8, linear_value_head_dim=8, num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=24, shared_expert_intermediate_size=24,
        layer_types=["linear_attention", "full_attention", "linear_attention"],
    ),
    "mamba": lambda: _config(
        "MambaConfig", vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, state_size=8,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
    "lfm2": lambda: _config("Lfm2Config", **SMALL, layer_types=["conv", "full_attention", "conv"]),
}  # fmt: skip
REFUSED: dict[str, Callable[[], Any]] = {
    "gpt2": lambda: _config(
        "GPT2Config", vocab_size=VOCAB, n_embd=32, n_layer=3, n_head=4, n_positions=1024,
        bos_token_id=1, eos_token_id=2, pad_token_id=0,
    ),
    "llama_dynamic": lambda: _config(
        "LlamaConfig", **{**SMALL, "max_position_embeddings": 64}, **_rope("dynamic", factor=4.0)
    ),
    "phi3_longrope": lambda: _config(
        "Phi3Config", **{**SMALL, "max_position_embeddings": 256}, **LONGROPE, sliding_window=None,
        original_max_position_embeddings=64,
    ),
}  # fmt: skip


def _without(values: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


@cache
def model(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The family's tiny model, made once a process; the same weights every time."""
    config = {**FAMILIES, **REFUSED, **LINEAR}[family]()
    config.use_cache = True
    torch.manual_seed(7)
    made = transformers.AutoModelForCausalLM.from_config(config, dtype=dtype)
    with torch.no_grad():  # larger weights than the default: logits that tell right from wrong
        for parameter in made.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.25)
    return made.eval()
