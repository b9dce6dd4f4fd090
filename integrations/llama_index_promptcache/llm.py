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
)
from llama_index.core.llms.callbacks import llm_chat_callback, llm_completion_callback
from llama_index.core.llms.llm import LLM, ToolSelection, default_completion_to_prompt
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import TransformComponent
from llama_index.core.tools import BaseTool

from llama_index_promptcache.asking import Asking
from llama_index_promptcache.documents import DocumentSource, Front, texts_of
from llama_index_promptcache.framing import (
    Formatting,
    beginning,
    formatted_messages,
    formatted_text,
    within,
)
from llama_index_promptcache.responses import (
    chat_pieces,
    chat_response,
    completion_pieces,
    completion_response,
)
from llama_index_promptcache.streams import auntil_left, until_left
from llama_index_promptcache.templates import schema_of, text_before_documents
from llama_index_promptcache.tools import calls_of, request_with
from llama_index_promptcache.translation import Translator
from promptcache import CachedDocuments, Reply
from promptcache.background import in_thread
from promptcache.pml import Schema

UNLIMITED = 2**31 - 1
"""What stands for the window of a model that has none: LlamaIndex wants a number."""


class PromptCacheLLM(Asking):
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
        )

    # Documents.

    def cache_documents(
        self,
        documents: DocumentSource,
        prompt: BasePromptTemplate | None = None,
        *,
        splitter: TransformComponent | None = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register documents, so that prompts that contain their text reuse it.

        A reader is read lazily, and each of its documents split when its turn comes. What is
        there already is not encoded again, so after an interruption the same call goes on where
        it stopped. With the template `prompt` documents are encoded now, after what it has in
        front of them; without, when a first prompt shows what stands before them. `pin` keeps
        them from being evicted. Raises TemplateError for a prompt in which it cannot be known
        what stands before the documents, and PromptError for what is not a document.
        """
        texts = texts_of(documents, splitter)
        front = Front() if prompt is None else self.front_of(prompt)
        return self.engine.cache_documents(texts, **front, progress=progress, pin=pin)

    def forget_documents(self, documents: DocumentSource) -> int:
        """Take documents out of the register, and their states out of the store.

        They are those that `cache_documents` was given, or the nodes that a splitter made of
        them. How many were registered. Raises PromptError for what is not a document.
        """
        return self.engine.forget_documents(texts_of(documents))

    def schema_from_prompt(self, prompt: BasePromptTemplate) -> Schema:
        """The schema of the prompts that a template makes for this LLM.

        Raises TemplateError for a template without a variable for documents.
        """
        return schema_of(prompt, self._filled, self, self.document_variables)

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

    # What templates are to this LLM.

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """What `predict` and its like hand to `chat`: the template's messages, with their PML."""
        if self._writes_text:
            return self._filled(prompt, prompt_args)
        translator = Translator(
            self,
            self._filled,
            self.engine.documents_in,
            self.document_variables,
            self.cut_passages,
        )
        return translator.messages(prompt, prompt_args)

    def _get_prompt(self, prompt: BasePromptTemplate, **prompt_args: Any) -> str:
        """What `predict` and its like hand to `complete`: a text that knows its format's parts."""
        as_prompt = self.completion_to_prompt or default_completion_to_prompt
        text = Formatting(formatted_text, as_prompt)
        messages = Formatting(formatted_messages, self._as_text)
        whole = prompt.format(
            llm=self, messages_to_prompt=messages, completion_to_prompt=text, **prompt_args
        )
        if self.output_parser is not None:
            whole = self.output_parser.format(whole)
        return within(self._extend_prompt(whole), text.made or messages.made)

    def _filled(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> list[ChatMessage]:
        return super()._get_messages(prompt, **values)

    def _filled_text(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> str:
        if self._chats:
            return formatted_messages(self._as_text, self._filled(prompt, values))
        return self._get_prompt(prompt, **values)

    def front_of(self, prompt: BasePromptTemplate) -> Front:
        """What documents stand behind in a template's prompts. Raises as `cache_documents` does."""
        if self._chats and not self._writes_text:
            return Front(schema=self.schema_from_prompt(prompt))
        filled = ""

        def render(template: BasePromptTemplate, values: Mapping[str, Any]) -> str:
            nonlocal filled
            filled = self._filled_text(template, values)
            return filled

        before = text_before_documents(prompt, render, self, self.document_variables)
        return Front(preamble=beginning(filled, len(before)))

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
