"""A tiny random model that writes what a script says, behind the engine's real way of a prompt.

A logits processor chooses each token; prompts, attention states, decoding and the reading of calls
are the engine's own.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import PreTrainedModel

from core.text.tool_templates import QWEN_TOOLS
from langchain_promptcache import ChatPromptCache
from promptcache import PromptCache
from support.words import byte_tokenizer
from support.zoo import SMALL

ANSWER = "<|im_start|>assistant\n"
"""What the template puts in front of an answer."""
Respond = Callable[[str], str]
"""From the prompt, without the beginning of its answer, to the answer."""


class Script:
    """Makes the model write what `respond` says, and end there. It keeps the prompts it saw."""

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.prompts: list[str] = []

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        tokenizer = byte_tokenizer(QWEN_TOOLS)
        row = ids[0].tolist()
        opening = tokenizer.encode(ANSWER, add_special_tokens=False)
        starts = range(len(row) - len(opening), -1, -1)
        start = next(i for i in starts if row[i : i + len(opening)] == opening)
        prompt = tokenizer.decode(row[:start])
        if not self.prompts or self.prompts[-1] != prompt:
            self.prompts.append(prompt)
        written = row[start + len(opening) :]
        wanted = [*tokenizer.encode(self._respond(prompt), add_special_tokens=False), 2]
        assert wanted[: len(written)] == written, tokenizer.decode(written)
        chosen = torch.full_like(scores, -torch.inf)
        chosen[0, wanted[len(written)]] = 0.0
        return chosen


def call(name: str, **arguments: Any) -> str:
    """A call in the template's own form."""
    said = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"<tool_call>\n{said}\n</tool_call>"


@cache
def roomy_model() -> PreTrainedModel:
    """The zoo's tiny llama, with a window for descriptions of tools in single bytes."""
    config = transformers.LlamaConfig(**{**SMALL, "max_position_embeddings": 16384})
    torch.manual_seed(7)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def tool_engine(template: str = QWEN_TOOLS, **options: Any) -> PromptCache:
    """An engine whose chat template takes tools, with a store of its own."""
    return PromptCache(roomy_model(), byte_tokenizer(template), name="tiny", **options)


def scripted(respond: Respond | str, engine: PromptCache | None = None) -> ChatPromptCache:
    """A chat model that answers as the script says."""
    script = Script(respond if callable(respond) else lambda _: respond)
    return ChatPromptCache(
        engine=engine or tool_engine(),
        max_tokens=400,
        generation_kwargs={"logits_processor": [script]},
    )
