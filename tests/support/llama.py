"""What tests of LlamaIndex share: nodes, a shelf to retrieve them from, and two models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import torch
from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
from pydantic import PrivateAttr

from llama_index_promptcache import PromptCacheLLM
from promptcache import PromptCache
from support.rag import tiny_engine
from support.words import byte_tokenizer
from support.zoo import model

NODES = [
    TextNode(text="The lighthouse of Arven is 31 metres tall and painted white."),
    TextNode(text="Mira Tollen plays the viola in Ostmark.", metadata={"title": "Mira"}),
    TextNode(text="The Kolt museum opened in 1893, in a mill.\nEntry is free.\n"),
]
TEXTS = [
    "The lighthouse of Arven is 31 metres tall and painted white.",
    "title: Mira\n\nMira Tollen plays the viola in Ostmark.",
    "The Kolt museum opened in 1893, in a mill.\nEntry is free.",
]
"""What synthesizers send of the nodes."""
QUESTION = "How tall is it?"


def tiny_llm(engine: PromptCache | None = None, **settings: Any) -> PromptCacheLLM:
    """The product on a tiny random model, which says one token."""
    return PromptCacheLLM(engine=engine or tiny_engine(), **{"max_new_tokens": 1, **settings})


class Shelf(BaseRetriever):
    """Retrieves what stands on it, in its order."""

    def __init__(self, nodes: Sequence[TextNode]) -> None:
        super().__init__()
        self.nodes = nodes

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return scored(self.nodes)


def scored(nodes: Sequence[TextNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=1.0) for node in nodes]


class PlainLLM(CustomLLM):
    """Greedy answers by plain transformers, through the tokenizer's own chat template."""

    model: Any
    tokenizer: Any
    max_new_tokens: int
    _answers: list[str] = PrivateAttr(default_factory=list)

    @property
    def answers(self) -> list[str]:
        """What it has said so far."""
        return self._answers

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(
            context_window=self.model.config.max_position_embeddings,
            num_output=self.max_new_tokens,
            is_chat_model=True,
        )

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        told = [{"role": message.role.value, "content": message.content} for message in messages]
        text = self.tokenizer.apply_chat_template(told, tokenize=False, add_generation_prompt=True)
        ids = self.tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            said = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                suppress_tokens=list(unspeakable()),
            )
        answer = self.tokenizer.decode(said[0, ids.shape[1] :], skip_special_tokens=True).lstrip()
        self._answers.append(answer)
        return ChatResponse(message=ChatMessage(answer, role=MessageRole.ASSISTANT))

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        answer = self.chat([ChatMessage(prompt, role=MessageRole.USER)])
        return CompletionResponse(text=answer.message.content or "")

    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        raise NotImplementedError


@cache
def unspeakable() -> tuple[int, ...]:
    """The tokens of the tiny model that are no letter. Said in a conversation by a random model,
    they would be read back as others.
    """
    tokenizer = byte_tokenizer()
    said = {n: tokenizer.decode([n]) for n in range(model("llama").config.vocab_size)}
    return tuple(n for n, text in said.items() if not re.fullmatch("[A-Za-z]", text))


def words_tokenizer(text: str) -> list[str]:
    """What LlamaIndex counts with where no model's tokenizer is set; needs no download."""
    return re.findall(r"\S+", text)
