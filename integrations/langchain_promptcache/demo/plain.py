"""The other side of the comparison: a LangChain chat model on transformers alone.

The same model and tokenizer objects, transformers' own `generate` with its own cache and the
model's own attention; every prompt is prefilled in full. Also the oracle of the chain tests.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult

from langchain_promptcache.messages import to_engine


class PlainChat(BaseChatModel):
    """Greedy answers by plain transformers; `ttft` in the message's `response_metadata`."""

    model: Any
    tokenizer: Any
    max_tokens: int = 64

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        watch = _FirstToken()
        rendering = self.tokenizer.apply_chat_template(
            to_engine(messages), tokenize=False, add_generation_prompt=True
        )
        prompt = self.tokenizer(rendering, add_special_tokens=False, return_tensors="pt")
        prompt = {name: prompt[name].to(self.model.device) for name in _INPUTS}
        with torch.no_grad():
            ids = self.model.generate(
                **prompt, max_new_tokens=self.max_tokens, do_sample=False, streamer=watch
            )
        before = prompt["input_ids"].shape[1]
        answer = ids[0, before:]
        message = AIMessage(
            content=self.tokenizer.decode(answer, skip_special_tokens=True).lstrip(),
            usage_metadata=UsageMetadata(
                input_tokens=before, output_tokens=len(answer), total_tokens=before + len(answer)
            ),
            response_metadata={"model_name": type(self.model).__name__, "ttft": watch.ttft},
        )
        return ChatResult(generations=[ChatGeneration(message=message)])

    @property
    def _llm_type(self) -> str:
        return "plain-transformers"


_INPUTS = ("input_ids", "attention_mask")


class _FirstToken:
    """Takes the time until `generate` gives its first token; it is told the prompt before."""

    def __init__(self) -> None:
        self._started = perf_counter()
        self._told = 0
        self.ttft = 0.0

    def put(self, value: Any) -> None:
        """Count what comes: the prompt, then each token."""
        self._told += 1
        if self._told == 2:
            self.ttft = perf_counter() - self._started

    def end(self) -> None:
        """Nothing to do at the end."""
