"""A forward pass for training: the same arithmetic as transformers' Llama, in fewer operations.

Query, key and value are one product, as are gate and up; the last layer is worked out only where
a target stands. `tests/core/pocket` holds it against the plain model. This file knows nothing
about losses or batches.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from transformers import LlamaForCausalLM


def _norm(x: torch.Tensor, weight: torch.Tensor, eps: float, dtype: torch.dtype) -> torch.Tensor:
    return functional.rms_norm(x, (x.shape[-1],), weight, eps).to(dtype)


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    half = x.shape[-1] // 2
    left, right = x[..., :half], x[..., half:]
    return torch.cat((left * cos - right * sin, right * cos + left * sin), dim=-1)


def _angles(
    model: LlamaForCausalLM, length: int, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    inverse = model.model.rotary_emb.inv_freq.float()
    angles = torch.arange(length).float()[:, None] * inverse[None, :]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, chunk: int = 256) -> torch.Tensor:
    """Causal attention by plain products, a chunk of queries at a time.

    On a CPU this trains up to three times faster than the fused kernel in bf16. `q` is
    `[batch, heads, length, size]`, `k` and `v` have fewer heads; returns the shape of `q`.
    """
    batch, heads, length, size = q.shape
    kv_heads = k.shape[1]
    groups = heads // kv_heads
    q = q.reshape(batch * kv_heads, groups, length, size)
    k = k.reshape(batch * kv_heads, length, size).transpose(1, 2)
    v = v.reshape(batch * kv_heads, length, size)
    mixed = []
    for start in range(0, length, chunk):
        end = min(length, start + chunk)
        mask = torch.full((end - start, end), -1e4, dtype=q.dtype).triu(1 + start)
        part = q[:, :, start:end].reshape(batch * kv_heads, -1, size)
        scores = torch.baddbmm(mask.repeat(groups, 1)[None], part, k[:, :, :end], alpha=size**-0.5)
        out = torch.bmm(scores.softmax(-1), v[:, :end])
        mixed.append(out.view(batch * kv_heads, groups, end - start, size))
    return torch.cat(mixed, dim=2).view(batch, heads, length, size)


def logits_at(
    model: LlamaForCausalLM,
    ids: torch.Tensor,
    rows: torch.Tensor,
    columns: torch.Tensor,
    dtype: torch.dtype = torch.bfloat16,
) -> torch.Tensor:
    """Return logits `[n, vocabulary]` at the n places `(rows, columns)` of `ids [rows, length]`."""
    config = model.config
    heads, kv_heads, size = (
        config.num_attention_heads,
        config.num_key_value_heads,
        config.head_dim,
    )
    eps = config.rms_norm_eps
    batch, length = ids.shape
    cos, sin = _angles(model, length, dtype)
    embedding = model.model.embed_tokens.weight
    x = functional.embedding(ids, embedding)  # what passes between layers stays float32
    last = len(model.model.layers) - 1
    for place, layer in enumerate(model.model.layers):
        attention, mlp = layer.self_attn, layer.mlp
        projection = torch.cat(
            [attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight]
        ).to(dtype)
        qkv = functional.linear(_norm(x, layer.input_layernorm.weight, eps, dtype), projection)
        qkv = qkv.view(batch, length, heads + 2 * kv_heads, size).transpose(1, 2)
        turned = _rotate(qkv[:, : heads + kv_heads], cos, sin)
        q, k, v = turned[:, :heads], turned[:, heads:], qkv[:, heads + kv_heads :]
        mixed = _attend(q, k, v).transpose(1, 2)
        if place == last:
            x, mixed = x[rows, columns], mixed[rows, columns]
        mixed = mixed.reshape(*x.shape[:-1], heads * size)
        x = x + functional.linear(mixed, attention.o_proj.weight.to(dtype))
        wide = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]).to(dtype)
        gate, up = functional.linear(
            _norm(x, layer.post_attention_layernorm.weight, eps, dtype), wide
        ).chunk(2, dim=-1)
        x = x + functional.linear(nn.functional.silu(gate) * up, mlp.down_proj.weight.to(dtype))
    return functional.linear(_norm(x, model.model.norm.weight, eps, dtype), embedding.to(dtype))
