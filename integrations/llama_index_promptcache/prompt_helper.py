"""WholeNodePromptHelper: texts packed into prompts whole, so that each is found there again.

LlamaIndex's own helper joins all texts and cuts the sum where the window ends, in the middle of
a node; what is left of that node on either side is in no cache. It counts a chat prompt's tokens
with another model's tokenizer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, Self

import jinja2
from llama_index.core.base.llms.types import ChatMessage, LLMMetadata, TextBlock
from llama_index.core.constants import DEFAULT_CONTEXT_WINDOW, DEFAULT_NUM_OUTPUTS
from llama_index.core.indices.prompt_helper import (
    DEFAULT_CHUNK_OVERLAP_RATIO,
    DEFAULT_PADDING,
    PromptHelper,
)
from llama_index.core.llms.llm import LLM
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.tools import BaseTool
from llama_index.core.utilities.token_counting import TokenCounter
from pydantic import PrivateAttr
from transformers import PreTrainedTokenizerBase

from promptcache import PromptCache
from promptcache.errors import PromptError

log = logging.getLogger("promptcache")

SEPARATOR = "\n\n"
"""What stands between two texts of one prompt."""
NEAR = 4
"""A cut may give up one part in so many of what would fit, to fall between lines or words."""

Tokenizer = Callable[[str], list[Any]]


class HasWindow(Protocol):
    """What of a model of ours says how long its prompts may be."""

    @property
    def engine(self) -> PromptCache:
        """Whose tokenizer counts."""

    @property
    def metadata(self) -> LLMMetadata:
        """The window, and how much of it an answer may take, in tokens."""


class WholeNodePromptHelper(PromptHelper):
    """Puts as many texts into a prompt as fit, one after another, and cuts none in two.

        Settings.prompt_helper = WholeNodePromptHelper.from_llm(llm)

    Where only one query engine is to have it, its synthesizer takes it, from
    `get_response_synthesizer(llm=llm, prompt_helper=helper)`; `as_query_engine` drops it.

    A text that does not even fit alone is cut, and a line is logged. The arguments are those of
    LlamaIndex's PromptHelper, which says what they mean; `frame_tokens` are those that a chat
    template puts around a whole prompt, and `message_tokens` those around each message. Raises
    PromptError where a prompt leaves no room for a text.
    """

    _frame_tokens: int = PrivateAttr()

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
        self._token_counter = _Counter(self._token_counter.tokenizer, message_tokens)
        self._frame_tokens = frame_tokens

    @classmethod
    def from_llm(cls, llm: HasWindow, **options: Any) -> Self:
        """A helper that counts as this model does; `options` are those of the class."""
        metadata = llm.metadata
        num_output = DEFAULT_NUM_OUTPUTS if metadata.num_output == -1 else metadata.num_output
        framed = _framing(llm.engine.tokenizer) if metadata.is_chat_model else {}
        known = {
            "context_window": metadata.context_window,
            "num_output": num_output,
            "tokenizer": llm.engine.token_ids,
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
        room = self._room(prompt, 1, padding, llm, tools)
        chunks = [chunk for text in text_chunks for chunk in _unpacked(text)]
        pieces = [piece for chunk in chunks for piece in self._cut(chunk, room)]
        return list(self._packed(pieces, room)) or [""]

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
        return _Texts(self._shortened(text.strip(), room) for text in text_chunks)

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
    ) -> int:
        """How many tokens each of so many texts may have.

        Synthesizers that refine pad with 500 tokens for the answer so far. It has at most those
        of an answer, which is enough where the window is small; elsewhere the padding is also
        what holds them upright when they measured another prompt than they send.
        """
        room = self._get_available_chunk_size(prompt, num_chunks, padding, llm, tools)
        if room <= 0:
            least = min(padding, max(DEFAULT_PADDING, self.num_output))
            room = self._get_available_chunk_size(prompt, num_chunks, least, llm, tools)
        if room <= 0:
            raise PromptError(
                f"the prompt leaves no room for {num_chunks} texts: {room} tokens each, of the "
                f"window of {self.context_window}, {self.num_output} of them for the answer"
            )
        return room

    def _size(self, text: str) -> int:
        return self._token_counter.get_string_tokens(text)

    def _cut(self, chunk: str, room: int) -> list[str]:
        """The chunk itself, or its parts where it does not fit alone."""
        size = self._size(chunk)
        if size <= room:
            return [chunk]
        log.warning(
            "a text of %d tokens is cut: the prompt has room for %d. Its parts reuse nothing of "
            "it; split documents into smaller nodes: %.60r",
            size,
            room,
            chunk,
        )
        splitter = TokenTextSplitter(
            separator=self.separator,
            chunk_size=room,
            chunk_overlap=int(self.chunk_overlap_ratio * room),
            tokenizer=self._token_counter.tokenizer,
        )
        return [part for part in splitter.split_text(chunk) if part.strip()]

    def _packed(self, chunks: Sequence[str], room: int) -> Iterator[str]:
        """Chunks that fit alone, joined greedily."""
        between = self._size(SEPARATOR)
        packs: list[list[str]] = []
        size = 0
        for chunk in chunks:
            alone = self._size(chunk)
            # The sum of the parts is near enough to go on with, and exact only by chance; the
            # whole is counted where it decides.
            size += between + alone
            if packs and size > room:
                size = self._size(SEPARATOR.join([*packs[-1], chunk]))
            if packs and size <= room:
                packs[-1].append(chunk)
            else:
                packs.append([chunk])
                size = alone
        for pack in packs:
            yield from self._fitting(pack, room)

    def _fitting(self, pack: Sequence[str], room: int) -> Iterator[str]:
        """A pack whose parts fit together by their sum, in as many texts as it really takes."""
        while pack:
            end = len(pack)
            while end > 1 and self._size(SEPARATOR.join(pack[:end])) > room:
                end -= 1
            yield _Pack.of(pack[:end])
            pack = pack[end:]

    def _shortened(self, text: str, room: int) -> str:
        size = self._size(text)
        if size <= room:
            return text
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._size(text[:middle]) <= room else (low, middle - 1)
        kept = text[: _good_end(text, low)].rstrip()
        log.warning(
            "a text of %d tokens is cut after %d of its %d characters: the prompt has room for "
            "%d tokens. Retrieve fewer nodes, or use response_mode='compact': %.60r",
            size,
            len(kept),
            len(text),
            room,
            text,
        )
        return kept


class _Pack(str):
    """A packed text that knows its parts, since a helper may be asked to pack it again."""

    chunks: tuple[str, ...] = ()

    @classmethod
    def of(cls, chunks: Iterable[str]) -> _Pack:
        parts = tuple(chunks)
        pack = cls(SEPARATOR.join(parts))
        pack.chunks = parts
        return pack


class _Texts(list[str]):
    """Texts that a template shows as themselves, and not as the repr of a list."""

    def __str__(self) -> str:
        return SEPARATOR.join(self)


class _Counter(TokenCounter):
    """Counts messages with the model's tokenizer, where the stock counter takes another's."""

    def __init__(self, tokenizer: Tokenizer, message_tokens: int) -> None:
        super().__init__(tokenizer)
        self._message_tokens = message_tokens

    def estimate_tokens_in_messages(self, messages: list[ChatMessage]) -> int:
        return sum(self._message_tokens + self._in_message(message) for message in messages)

    def _in_message(self, message: ChatMessage) -> int:
        return sum(
            self.get_string_tokens(block.text)
            if isinstance(block, TextBlock)
            else block.estimate_tokens(tokenizer=self.tokenizer)
            for block in message.blocks
        )


def _unpacked(text: str) -> list[str]:
    """The chunks of a text that was packed before, or the text; without those that are blank."""
    chunks = text.chunks if isinstance(text, _Pack) else (text,)
    return [chunk.strip() for chunk in chunks if chunk.strip()]


def _good_end(text: str, most: int) -> int:
    """Where to cut a text of which `most` characters fit: at a blank line, a line end, a space."""
    for mark in (SEPARATOR, "\n", " "):
        end = text.rfind(mark, most - most // NEAR, most + len(mark))
        if end >= 0:
            return end
    return most


def _framing(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """How many tokens a chat template puts around a prompt, and around each of its messages."""

    def size(turns: int) -> int:
        messages = [{"role": ("user", "assistant")[i % 2], "content": "a"} for i in range(turns)]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return len(tokenizer(text, add_special_tokens=False).input_ids)

    letter = len(tokenizer("a", add_special_tokens=False).input_ids)
    try:
        one, three = size(1), size(3)
    except (jinja2.TemplateError, ValueError) as error:
        log.warning("a chat template's own tokens are not counted: %s", error)
        return {}
    each = max(0, -(-(three - one) // 2) - letter)
    return {"frame_tokens": max(0, one - letter), "message_tokens": each}
