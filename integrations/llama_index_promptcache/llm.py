"""PromptCacheLLM: the LLM that takes another's place in LlamaIndex's engines.

LlamaIndex's side only: messages, texts and templates in, responses out. What is reused and how is
the engine's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.llms import (
    ChatMessage,
    ChatResponse,
    ChatResponseAsyncGen,
    ChatResponseGen,
    CompletionResponse,
    CompletionResponseAsyncGen,
    CompletionResponseGen,
    MessageRole,
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM, ToolSelection
from llama_index.core.tools import BaseTool

from llama_index_promptcache.filling import Filling
from llama_index_promptcache.responses import (
    chat_pieces,
    chat_response,
    completion_pieces,
    completion_response,
)
from llama_index_promptcache.streams import auntil_left, until_left
from llama_index_promptcache.tools import calls_of, request_with
from promptcache import Reply
from promptcache.background import in_thread

UNLIMITED = 2**31 - 1
"""What stands for the window of a model that has none: LlamaIndex wants a number."""


class PromptCacheLLM(Filling):
    """An LLM that reuses the attention states of documents in any prompt they appear in.

        Settings.llm = PromptCacheLLM(model_name="pocket", temperature=0)
        index.as_query_engine().query("...")

    Takes the place of another LLM in query engines, chat engines and pipelines; nothing else
    changes. Parameters have the names of LlamaIndex's HuggingFaceLLM. `model_name` is "pocket", a
    folder or a name on the Hugging Face hub; `model` and `tokenizer` are loaded objects of
    transformers; `engine` is a PromptCache, which several objects may share.

    A response's `raw` counts the tokens under `usage`, and says under `provenance` where every
    span of the prompt came from. Raises PromptCacheError, of the kind that fits, for everything
    that a user can get wrong.
    """

    @classmethod
    def class_name(cls) -> str:
        """What LlamaIndex calls this class in events and dumps."""
        return "PromptCacheLLM"

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex's engines plan prompts with; `context_window` is in tokens."""
        return LLMMetadata(
            context_window=self.window or UNLIMITED,
            num_output=self.answer_tokens,
            is_chat_model=self._chats,
            is_function_calling_model=(
                self._chats and not self._writes_text and self.engine.takes_tools
            ),
            model_name=self.model_name,
            system_role=MessageRole.USER if self._takes_no_system else MessageRole.SYSTEM,
        )

    # Requests.

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages.

        `tools` are descriptions as chat templates take them, `tool_choice` says whether one has
        to be called, and with `parallel_tool_calls=False` an answer has one call at most.
        """
        *_, reply = self._answer(messages, kwargs)
        return chat_response(_whole(reply), parallel=_parallel(kwargs))

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, with the event loop free."""
        async for piece in in_thread(lambda: self._answer(messages, kwargs)):
            last = piece
        return chat_response(_whole(last), parallel=_parallel(kwargs))

    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat`, piece by piece."""
        pieces = chat_pieces(self._answer(messages, kwargs), parallel=_parallel(kwargs))

        @llm_chat_callback()
        def begun(llm: LLM, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
            return pieces

        return until_left(begun(self, messages, **kwargs), pieces)

    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """`stream_chat`, with the event loop free between two pieces."""
        parallel = _parallel(kwargs)
        pieces = in_thread(lambda: chat_pieces(self._answer(messages, kwargs), parallel=parallel))

        @llm_chat_callback()
        async def begun(
            llm: LLM, messages: Sequence[ChatMessage], **kwargs: Any
        ) -> ChatResponseAsyncGen:
            return pieces

        return auntil_left(await begun(self, messages, **kwargs), pieces)

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue a text that is `formatted` as the model takes it; answer any other."""
        *_, reply = self._answer(self._asked(prompt, formatted), kwargs)
        return completion_response(_whole(reply))

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """`complete`, with the event loop free."""
        asked = self._asked(prompt, formatted)
        async for piece in in_thread(lambda: self._answer(asked, kwargs)):
            last = piece
        return completion_response(_whole(last))

    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """`complete`, piece by piece."""
        pieces = completion_pieces(self._answer(self._asked(prompt, formatted), kwargs))

        @llm_completion_callback()
        def begun(llm: LLM, prompt: str, **kwargs: Any) -> CompletionResponseGen:
            return pieces

        return until_left(begun(self, prompt, **kwargs), pieces)

    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, with the event loop free between two pieces."""
        asked = self._asked(prompt, formatted)
        pieces = in_thread(lambda: completion_pieces(self._answer(asked, kwargs)))

        @llm_completion_callback()
        async def begun(llm: LLM, prompt: str, **kwargs: Any) -> CompletionResponseAsyncGen:
            return pieces

        return auntil_left(await begun(self, prompt, **kwargs), pieces)

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of tools in an answer. Raises ValueError for none, unless told otherwise."""
        calls = calls_of(response)
        if error_on_no_tool_call and not calls:
            raise ValueError(f"the answer calls no tool: {response.message.content!r:.80}")
        return calls

    def _prepare_chat_with_tools(
        self,
        tools: Sequence[BaseTool],
        user_msg: str | ChatMessage | None = None,
        chat_history: list[ChatMessage] | None = None,
        verbose: bool = False,
        allow_parallel_tool_calls: bool = False,
        tool_required: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        return request_with(
            tools,
            user_msg,
            chat_history,
            kwargs,
            required=tool_required,
            parallel=allow_parallel_tool_calls,
        )


def _parallel(given: Mapping[str, Any]) -> bool:
    return given.get("parallel_tool_calls") is not False


def _whole(last: str | Reply) -> Reply:
    assert isinstance(last, Reply)
    return last
