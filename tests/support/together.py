"""What is asked at once, and of which families of models that can share a forward."""

from __future__ import annotations

from support.library import messages

TOGETHER = [
    "llama", "llama_llama3", "llama_yarn", "mistral", "qwen2", "qwen3", "qwen3_moe", "phi3",
    "gpt_neox", "cohere", "glm4", "olmo2", "stablelm", "granite", "smollm3",
]  # fmt: skip
"""Grouped and single heads, whole and partial rotary, interleaved, scaled, layers without."""
CHATS = [
    messages(0, 1, 2),
    messages(2, 0, question="Why " * 9),
    messages(5),
    messages(3, 1, 4, 0, question="Who?"),
    messages(2, 2),
    [{"role": "user", "content": "Nothing of them."}],
]
