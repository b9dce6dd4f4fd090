"""How many tokens LlamaIndex's prompts have for a model of ours, with what is put around them.

LlamaIndex's own counter counts chat messages with another model's tokenizer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_prompt
from llama_index.core.base.llms.types import ChatMessage, TextBlock
from llama_index.core.llms.llm import LLM
from llama_index.core.utilities.token_counting import TokenCounter

from llama_index_promptcache.messages import to_engine
from promptcache.errors import PromptCacheError
from promptcache.parameters import Engine

log = logging.getLogger("promptcache")

LETTER = "a"
"""A content, to see what stands around one."""

Tokenizer = Callable[[str], list[Any]]


class Counter(TokenCounter):
    """Counts messages with the model's tokenizer; `message_tokens` stand around each."""

    def __init__(self, tokenizer: Tokenizer | None, message_tokens: int) -> None:
        super().__init__(tokenizer)
        self.message_tokens = message_tokens

    def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
        """The tokens of the messages."""
        return sum(self.message_tokens + self._in_message(message) for message in messages)

    def _in_message(self, message: ChatMessage) -> int:
        return sum(
            self.get_string_tokens(block.text)
            if isinstance(block, TextBlock)
            else block.estimate_tokens(tokenizer=self.tokenizer)
            for block in message.blocks
        )


def framing(llm: LLM, engine: Engine) -> dict[str, int]:
    """How many tokens a model that chats puts around a prompt, and around each of its messages."""
    try:
        one, three = (_size(_turns(count), llm, engine) for count in (1, 3))
    except PromptCacheError as error:
        log.warning("a chat template's own tokens are not counted: %s", error)
        return {}
    letter = engine.count_tokens(LETTER)
    each = max(0, -(-(three - one) // 2) - letter)
    return {"frame_tokens": max(0, one - letter), "message_tokens": each}


def _turns(count: int) -> list[ChatMessage]:
    return [ChatMessage(LETTER, role=("user", "assistant")[i % 2]) for i in range(count)]


def _size(messages: Sequence[ChatMessage], llm: LLM, engine: Engine) -> int:
    as_text = llm.messages_to_prompt or generic_prompt
    if as_text is generic_prompt and engine.has_chat_template:
        return engine.count_message_tokens(to_engine(messages))
    return engine.count_tokens(as_text(messages))
