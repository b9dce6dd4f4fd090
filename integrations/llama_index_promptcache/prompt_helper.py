"""WholeNodePromptHelper: texts packed into prompts whole, so that each is found there again.

LlamaIndex's own helper joins all texts and cuts the sum where the window ends, in the middle of
a node; what is left of that node on either side is in no cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, Self

from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.indices.prompt_helper import (
    DEFAULT_CHUNK_OVERLAP_RATIO,
    DEFAULT_PADDING,
    PromptHelper,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools import BaseTool
from pydantic import PrivateAttr

from llama_index_promptcache.counting import Counter, Tokenizer, framing
from llama_index_promptcache.documents import checked_llm
from llama_index_promptcache.packing import Packer, Texts
from llama_index_promptcache.refining import listen, refining
from promptcache.errors import PromptError
from promptcache.parameters import refuse_unknown


class WholeNodePromptHelper(PromptHelper):
    """Puts as many texts into a prompt as fit, one after another, and cuts none in two.

        Settings.prompt_helper = WholeNodePromptHelper.from_llm(llm)

    That is for every LLM of the process: the prompts of others are packed for this one's window
    too. Where only one query engine is to have it, its synthesizer takes it, from
    `get_response_synthesizer(llm=llm, prompt_helper=helper)`; `as_query_engine` drops it.

    A text that does not even fit alone is cut, and a line is logged. One that is only slightly too
    large becomes two, the tail perhaps in a prompt of its own, and neither reuses the node: split
    documents into nodes smaller than that.

    The arguments are those of LlamaIndex's PromptHelper, which says what they mean; `frame_tokens`
    are those that a chat template puts around a whole prompt, and `message_tokens` those around
    each message. Raises PromptError where a prompt leaves no room for a text.
    """

    _packer: Packer = PrivateAttr()
    _frame_tokens: int = PrivateAttr()
    _message_tokens: int = PrivateAttr()

    def __init__(
        self,
        context_window: int = DEFAULT_CONTEXT_WINDOW,
        num_output: int = DEFAULT_NUM_OUTPUTS,
        chunk_overlap_ratio: float = DEFAULT_CHUNK_OVERLAP_RATIO,
        chunk_size_limit: int | None = None,
        tokenizer: Tokenizer | None = None,
        separator: str = " ",
        *,
        frame_tokens: int = 0,
        message_tokens: int = 4,
    ) -> None:
        super().__init__(
            context_window=context_window,
            num_output=num_output,
            chunk_overlap_ratio=chunk_overlap_ratio,
            chunk_size_limit=chunk_size_limit,
            tokenizer=tokenizer,
            separator=separator,
        )
        self._token_counter = Counter(tokenizer, message_tokens)
        self._packer = Packer(self._token_counter.get_string_tokens)
        self._frame_tokens = frame_tokens
        self._message_tokens = message_tokens
        listen()

    @classmethod
    def from_llm(cls, llm: LLM, **options: Any) -> Self:
        """A helper that counts as this model does; `options` are those of the class.

        Raises OptionError for a model that is none of ours, and for an option that there is not.
        """
        engine = checked_llm(llm).engine
        refuse_unknown(options, inspect.signature(cls).parameters)
        while isinstance(llm, StructuredLLM):
            llm = llm.llm
        metadata = llm.metadata
        num_output = DEFAULT_NUM_OUTPUTS if metadata.num_output == -1 else metadata.num_output
        framed = framing(llm, engine) if metadata.is_chat_model else {}
        known = {
            "context_window": metadata.context_window,
            "num_output": num_output,
            "tokenizer": engine.token_ids,
        }
        return cls(**{**known, **framed, **options})

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex knows this class by."""
        return "WholeNodePromptHelper"

    def repack(
        self,
        prompt: BasePromptTemplate,
        text_chunks: Sequence[str],
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> list[str]:
        """The texts, joined to as few as fit the window; at least one, if an empty one.

        What was packed here before is packed anew when it does not fit another prompt.
        """
        needed = max(map(self._packer.size, text_chunks), default=0)
        room = self._room(prompt, 1, padding, llm, tools, needed)
        splitter = TokenTextSplitter(
            separator=self.separator,
            chunk_size=room,
            chunk_overlap=int(self.chunk_overlap_ratio * room),
            tokenizer=self._token_counter.tokenizer,
        )
        return self._packer.packed(text_chunks, room, splitter.split_text) or [""]

    def truncate(
        self,
        prompt: BasePromptTemplate,
        text_chunks: Sequence[str],
        padding: int = DEFAULT_PADDING,
        llm: LLM | None = None,
        tools: list[BaseTool] | None = None,
    ) -> list[str]:
        """Each text as far as its share of the window goes, cut between lines if it can be.

        A template that is filled with the list itself, as SimpleSummarize does it, says the texts.
        """
        if not text_chunks:
            return []
        room = self._room(prompt, len(text_chunks), padding, llm, tools)
        return Texts(self._packer.shortened(text.strip(), room) for text in text_chunks)

    def _get_available_context_size(self, num_prompt_tokens: int) -> int:
        taken = num_prompt_tokens + self._frame_tokens
        left = self.context_window - taken - self.num_output
        if left < 0:
            raise PromptError(
                f"the prompt takes {taken} tokens without its texts, and the answer may take "
                f"{self.num_output}; the window of {self.context_window} holds less"
            )
        return left

    def _room(
        self,
        prompt: BasePromptTemplate,
        num_chunks: int,
        padding: int,
        llm: LLM | None,
        tools: list[BaseTool] | None,
        needed: int = 0,
    ) -> int:
        """How many tokens each of so many texts may have; `needed` if there are as many.

        Synthesizers that refine pad with 500 tokens, for the answer so far, the question and what
        the templates differ by. The answer has at most the tokens of one; the rest is measured
        here where it is known, and elsewhere the padding is kept as long as no text is cut for it.
        """

        def free(template: BasePromptTemplate, padding: int) -> int:
            more = self._message_tokens if _has_system_prompt(llm) else 0
            return self._get_available_chunk_size(
                template, num_chunks, padding + more, llm, [*(tools or ())]
            )

        least = min(padding, max(DEFAULT_PADDING, self.num_output))
        asked = refining()
        if asked and "existing_answer" not in prompt.kwargs:
            room = min(
                free(prompt, least),
                free(asked.first, min(padding, DEFAULT_PADDING)),
                free(asked.later, least),
            )
        else:
            room = free(prompt, padding)
            if room < max(1, needed):
                room = free(prompt, least)
        if room <= 0:
            raise PromptError(
                f"the prompt leaves no room for {num_chunks} texts: {room} tokens each, of the "
                f"window of {self.context_window}, {self.num_output} of them for the answer"
            )
        return room


def _has_system_prompt(llm: LLM | None) -> bool:
    """Whether a model puts one in front of every prompt, which chat models do as a message."""
    while isinstance(llm, StructuredLLM):
        llm = llm.llm
    return llm is not None and bool(llm.system_prompt)
