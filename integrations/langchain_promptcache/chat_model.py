"""ChatPromptCache: the chat model that takes another's place in a LangChain chain.

LangChain's side only: messages in, results out. What is reused and how is the engine's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams
from langchain_core.language_models.chat_models import agenerate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompts import BasePromptTemplate

from langchain_promptcache.background import in_thread
from langchain_promptcache.caching import DocumentCaching, Front
from langchain_promptcache.messages import to_engine
from langchain_promptcache.outputs import chunk_of, last_chunk_of, result_of
from langchain_promptcache.templates import schema_from_prompt


class ChatPromptCache(DocumentCaching, BaseChatModel):
    """A chat model that reuses the attention states of documents in any prompt they appear in.

        llm = ChatPromptCache(model="pocket", temperature=0)
        llm.cache_documents(documents, prompt=prompt)
        chain = create_stuff_documents_chain(llm, prompt)

    Takes the place of another chat model in a chain; nothing else changes. Parameters have the
    names that other LangChain classes use for them: `max_tokens` or `max_new_tokens`, `model` or
    `model_id`, `temperature`, `stop`, `seed`. Messages' `usage_metadata` counts what was read from
    the cache, their `response_metadata` says for every span of the prompt where it came from.

    Raises PromptCacheError, of the kind that fits, for everything that a user can get wrong.
    """

    def front_of(self, prompt: BasePromptTemplate[Any], document_variable: str) -> Front:
        """The template as a schema, whose preamble its prompts have in front of their documents."""
        schema = schema_from_prompt(prompt, document_variable=document_variable)
        return Front(schema=self.engine.add_schema(schema).name)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        options = self.request_options(stop, kwargs)
        return result_of(self.engine.generate_messages(to_engine(messages), **options))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk]:
        options = self.request_options(stop, kwargs)
        with self.engine.stream_messages(to_engine(messages), **options) as stream:
            for piece in stream:
                yield chunk_of(piece)
            yield last_chunk_of(stream.reply)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, **kwargs))

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in in_thread(lambda: self._stream(messages, stop, **kwargs)):
            yield chunk

    @property
    def _llm_type(self) -> str:
        return "promptcache-chat"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.identifying_settings()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=self.stop_strings(stop), **kwargs)
        params["ls_provider"] = "promptcache"
        return params
