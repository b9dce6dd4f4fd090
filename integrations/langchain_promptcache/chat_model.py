"""ChatPromptCache: the chat model that takes another's place in a LangChain chain.

LangChain's side only: messages in, results out. What is reused and how is the engine's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping, Sequence
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LangSmithParams, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable
from pydantic import BaseModel

from langchain_promptcache.caching import DocumentCaching, Front
from langchain_promptcache.documents import texts_of
from langchain_promptcache.messages import documents_in, to_engine
from langchain_promptcache.outputs import chunk_of, last_chunk_of, result_of
from langchain_promptcache.pml_requests import stream_of
from langchain_promptcache.structured import CALLED, note_promise, structured
from langchain_promptcache.templates import schema_from_prompt
from langchain_promptcache.tools import ToolLike, described
from promptcache import Reply
from promptcache.background import in_thread
from promptcache.errors import OptionError


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

    def bind_tools(
        self,
        tools: Sequence[ToolLike],
        *,
        tool_choice: str | bool | dict[str, Any] | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The model with tools that it may call; its calls are in its messages' `tool_calls`.

        `tool_choice`: None or "auto" leaves it to the model; "none" reads no calls; "any",
        "required" or True makes the answer begin as a call does, and a tool's name as a call of
        that tool. Raises TemplateError where the model's chat template takes no tools, and
        OptionError for what is no tool, no choice, or cannot be kept.
        """
        if strict:
            note_promise("strict=True")
        told = described(tools)
        self.engine.calling(told, tool_choice)
        chosen = {} if tool_choice is None else {"tool_choice": tool_choice}
        return self.bind(tools=told, **chosen, **kwargs)

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        method: str = CALLED,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """The model, its answers as values of `schema`.

        With `method="function_calling"`, and "json_schema", the schema is a tool that the answer
        has to call; with "json_mode" the answer is read as JSON, which the prompt has to ask for.
        An answer that does not fit raises OutputParserException, or ValidationError where it has
        other fields than a pydantic class; with `include_raw` the result is a dict of `raw`,
        `parsed` and `parsing_error`. Raises OptionError for another method, and TemplateError
        where a tool is needed and the model's chat template takes none.
        """
        if kwargs:
            names = ", ".join(kwargs)
            raise OptionError(
                f"with_structured_output does not take {names} (valid: include_raw, method, strict)"
            )
        if strict:
            note_promise("strict=True")
        return structured(self, schema, method=method, include_raw=include_raw)

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        *_, reply = self._answer(messages, stop, kwargs)
        assert isinstance(reply, Reply)
        return result_of(reply)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[ChatGenerationChunk]:
        for piece in self._answer(messages, stop, kwargs):
            yield chunk_of(piece) if isinstance(piece, str) else last_chunk_of(piece)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        async for piece in in_thread(lambda: self._answer(messages, stop, kwargs)):
            last = piece
        assert isinstance(last, Reply)
        return result_of(last)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in in_thread(lambda: self._stream(messages, stop, **kwargs)):
            yield chunk

    def _answer(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> Generator[str | Reply]:
        """The pieces of an answer's text, and then all of it."""
        told, options = self._request(messages, stop, given)
        with stream_of(self.engine, messages, told, options) as stream:
            yield from stream
            yield stream.reply

    def _request(
        self, messages: Sequence[BaseMessage], stop: list[str] | None, given: Mapping[str, Any]
    ) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Messages and options as the engine takes them.

        Documents that tools gave beside their text are registered, so that they are found in it.
        """
        options = self.request_options(stop, given)
        if retrieved := list(texts_of(documents_in(messages))):
            self.engine.cache_documents(retrieved, progress=False)
            options["expected"] = [*options.get("expected", ()), *retrieved]
        return to_engine(messages), options

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
