"""A transformers Llama -> a GGUF file with the same weights, unquantised, for llama.cpp.

Without a vocabulary: benchmarks give llama.cpp token ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from promptcache.errors import UnsupportedModelError

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""What a layer's weights are called in transformers and in GGUF."""


def write_gguf(model: PreTrainedModel, file: Path) -> None:
    """Write the model. Raises UnsupportedModelError for one that is not a plain Llama."""
    from gguf import GGUFWriter

    config = model.config
    _check(config)
    writer = GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("none")
    for name, tensor in _tensors(model):
        _add(writer, name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _check(config: Any) -> None:
    scaling = config.get_text_config().to_dict().get("rope_parameters") or {}
    plain = (
        config.model_type == "llama"
        and not config.attention_bias
        and not config.mlp_bias
        and scaling.get("rope_type", "default") == "default"
    )
    if not plain:
        raise UnsupportedModelError(
            f"a {config.model_type} model with these settings is not written as GGUF here; a Llama "
            "without biases and without scaling of its positions is"
        )


def _tensors(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    config, weights = model.config, model.state_dict()
    yield "token_embd.weight", weights["model.embed_tokens.weight"]
    yield "output_norm.weight", weights["model.norm.weight"]
    if not config.tie_word_embeddings:
        yield "output.weight", weights["lm_head.weight"]
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for layer in range(config.num_hidden_layers):
        for theirs, ours in NAMES.items():
            tensor = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in heads:
                tensor = _interleaved(tensor, heads[ours])
            yield f"blk.{layer}.{ours}.weight", tensor


def _interleaved(weight: Tensor, heads: int) -> Tensor:
    """The rows of a head, from pairs (i, i + half) as transformers turns them to (2i, 2i + 1)."""
    rows, columns = weight.shape
    halves = weight.reshape(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


def _add(writer: Any, name: str, tensor: Tensor) -> None:
    from gguf import GGMLQuantizationType

    kept = tensor.detach().cpu().contiguous()
    if kept.ndim == 1 or kept.dtype is torch.float32:
        writer.add_tensor(name, kept.float().numpy())
    elif kept.dtype is torch.bfloat16:
        data = kept.view(torch.uint8).numpy()
        writer.add_tensor(name, data, raw_dtype=GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(name, kept.numpy())
