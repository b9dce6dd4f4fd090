"""PromptCacheLLM: the LLM that takes another's place in LlamaIndex's engines.

LlamaIndex's side only: messages, texts and templates in, responses out. What is reused and how is
the engine's business.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Mapping, Sequence
from typing import Any, TypeVar

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_prompt
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
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import (
    ToolSelection,
    default_completion_to_prompt,
)
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import TransformComponent
from llama_index.core.tools import BaseTool

from llama_index_promptcache.documents import DocumentSource, texts_of
from llama_index_promptcache.messages import to_engine
from llama_index_promptcache.responses import (
    chat_piece,
    chat_response,
    completion_piece,
    completion_response,
)
from llama_index_promptcache.settings import EngineSettings
from llama_index_promptcache.templates import schema_of, text_before_documents
from llama_index_promptcache.tools import calls_of, described
from llama_index_promptcache.translation import TranslatedMessages, Translator
from promptcache import CachedDocuments, Reply
from promptcache.background import in_thread
from promptcache.pml import Schema
from promptcache.stream import Stream

UNLIMITED = 2**31 - 1
"""What stands for the window of a model that has none: LlamaIndex wants a number."""

Prompt = str | Sequence[ChatMessage]
T = TypeVar("T")


class PromptCacheLLM(EngineSettings, FunctionCallingLLM):
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
            is_function_calling_model=self._chats and self.engine.takes_tools,
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
        front = {} if prompt is None else self._front(prompt)
        return self.engine.cache_documents(texts, **front, progress=progress, pin=pin)

    def schema_from_prompt(self, prompt: BasePromptTemplate) -> Schema:
        """The schema of the prompts that a template makes for this LLM.

        Raises TemplateError for a template without a variable for documents.
        """
        return schema_of(prompt, self._filled, self, self.document_variables)

    # Requests.

    @llm_chat_callback()
    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """Answer messages."""
        *_, reply = self._answer(messages, kwargs)
        return chat_response(_whole(reply))

    @llm_chat_callback()
    def stream_chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponseGen:
        """`chat`, piece by piece."""
        return self._chat_pieces(messages, kwargs)

    @llm_chat_callback()
    async def achat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        """`chat`, with the event loop free."""
        async for piece in in_thread(lambda: self._answer(messages, kwargs)):
            last = piece
        return chat_response(_whole(last))

    @llm_chat_callback()
    async def astream_chat(
        self, messages: Sequence[ChatMessage], **kwargs: Any
    ) -> ChatResponseAsyncGen:
        """`stream_chat`, with the event loop free between two pieces."""
        return _generated(in_thread(lambda: self._chat_pieces(messages, kwargs)))

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        """Continue a text that is `formatted` as the model takes it; answer any other."""
        *_, reply = self._answer(self._prompt(prompt, formatted), kwargs)
        return completion_response(_whole(reply))

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        """`complete`, piece by piece."""
        return self._completion_pieces(self._prompt(prompt, formatted), kwargs)

    @llm_completion_callback()
    async def acomplete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponse:
        """`complete`, with the event loop free."""
        asked = self._prompt(prompt, formatted)
        async for piece in in_thread(lambda: self._answer(asked, kwargs)):
            last = piece
        return completion_response(_whole(last))

    @llm_completion_callback()
    async def astream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseAsyncGen:
        """`stream_complete`, with the event loop free between two pieces."""
        asked = self._prompt(prompt, formatted)
        return _generated(in_thread(lambda: self._completion_pieces(asked, kwargs)))

    def get_tool_calls_from_response(
        self, response: ChatResponse, error_on_no_tool_call: bool = True, **kwargs: Any
    ) -> list[ToolSelection]:
        """The calls of tools in an answer. Raises ValueError for none, unless told otherwise."""
        calls = calls_of(response)
        if error_on_no_tool_call and not calls:
            raise ValueError(f"the answer calls no tool: {response.message.content!r:.80}")
        return calls

    # How a prompt gets to the engine.

    def _answer(self, prompt: Prompt, given: Mapping[str, Any]) -> Generator[str | Reply]:
        """The pieces of an answer's text, and then all of it."""
        with self._begun(prompt, given) as stream:
            yield from stream
            yield stream.reply

    def _begun(self, prompt: Prompt, given: Mapping[str, Any]) -> Stream:
        options = self.request_options(given)
        if isinstance(prompt, str):
            return self.engine.stream_text(prompt, **options)
        as_text = self.messages_to_prompt or generic_prompt
        if as_text is not generic_prompt or not self.engine.has_chat_template:
            return self.engine.stream_text(as_text(prompt), **options)
        said = prompt.translation if isinstance(prompt, TranslatedMessages) else None
        if said is None or options.get("tools"):
            return self.engine.stream_messages(to_engine(prompt), **options)
        return self.engine.stream(
            said.prompt,
            schema=said.schema,
            documents=said.documents,
            **{"passages": said.passages, "notes": said.notes, **options},
        )

    def _prompt(self, prompt: str, formatted: bool) -> Prompt:
        """What `complete` is given, as it goes to the engine.

        A text that nobody formatted is a user's message to a model that chats, unless there is a
        function that formats it.
        """
        if formatted:
            return prompt
        if self.query_wrapper_prompt:
            prompt = self.query_wrapper_prompt.format(query_str=prompt)
        as_prompt = self.completion_to_prompt or default_completion_to_prompt
        if as_prompt is not default_completion_to_prompt:
            return as_prompt(prompt)
        if self._chats:
            return self._extend_messages([ChatMessage(prompt, role=MessageRole.USER)])
        return f"{self.system_prompt}\n\n{prompt}" if self.system_prompt else prompt

    @property
    def _chats(self) -> bool:
        given = self.is_chat_model
        return self.engine.has_chat_template if given is None else given

    def _get_messages(self, prompt: BasePromptTemplate, **prompt_args: Any) -> list[ChatMessage]:
        """What `predict` and its like hand to `chat`: the template's messages, with their PML."""
        translator = Translator(
            self,
            self._filled,
            self.engine.documents_in,
            self.document_variables,
            self.cut_passages,
        )
        return translator.messages(prompt, prompt_args)

    def _filled(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> list[ChatMessage]:
        return super()._get_messages(prompt, **values)

    def _filled_text(self, prompt: BasePromptTemplate, values: Mapping[str, Any]) -> str:
        return super()._get_prompt(prompt, **values)

    def _front(self, prompt: BasePromptTemplate) -> dict[str, Any]:
        """What documents stand behind in a template's prompts, as the engine takes it."""
        if self._chats:
            return {"schema": self.schema_from_prompt(prompt)}
        variables = self.document_variables
        return {"preamble": text_before_documents(prompt, self._filled_text, self, variables)}

    def _chat_pieces(
        self, messages: Sequence[ChatMessage], given: Mapping[str, Any]
    ) -> Generator[ChatResponse]:
        text = ""
        for piece in self._answer(messages, given):
            if isinstance(piece, Reply):
                yield chat_response(piece, "")
            else:
                text += piece
                yield chat_piece(text, piece)

    def _completion_pieces(
        self, prompt: Prompt, given: Mapping[str, Any]
    ) -> Generator[CompletionResponse]:
        text = ""
        for piece in self._answer(prompt, given):
            if isinstance(piece, Reply):
                yield completion_response(piece, "")
            else:
                text += piece
                yield completion_piece(text, piece)

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
        messages = list(chat_history or [])
        if user_msg is not None:
            said = user_msg if isinstance(user_msg, ChatMessage) else ChatMessage(user_msg)
            messages.append(said)
        choice = {"tool_choice": "any"} if tool_required and tools else {}
        return {"messages": messages, "tools": described(tools), **choice, **kwargs}


def _whole(last: str | Reply) -> Reply:
    assert isinstance(last, Reply)
    return last


async def _generated(items: AsyncIterator[T]) -> AsyncGenerator[T]:
    """The items as an async generator, which is what LlamaIndex listens to."""
    async for item in items:
        yield item
