"""PromptCacheLLM: the text model that takes another's place in a LangChain chain.

It continues the text that it is given: no chat template comes in between. LangChain's side only:
prompts in, results out. What is reused and how is the engine's business.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Mapping
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import LangSmithParams, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import Generation, GenerationChunk, LLMResult
from langchain_core.prompt_values import PromptValue
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig

from langchain_promptcache.beginning import text_before_documents
from langchain_promptcache.caching import DocumentCaching, Front
from langchain_promptcache.completions import chunk_of, generation_of, last_chunk_of, result_of
from langchain_promptcache.pml_template import PMLPromptValue
from promptcache.background import in_thread

Configs = RunnableConfig | list[RunnableConfig] | None


class PromptCacheLLM(DocumentCaching, BaseLLM):
    """A text model that reuses the attention states of documents in any prompt they appear in.

        llm = PromptCacheLLM(model="pocket", temperature=0)
        llm.cache_documents(documents, prompt=prompt)
        chain = prompt | llm

    For base models, and prompts that bring their own format; `ChatPromptCache` applies the
    model's chat template. Settings are the same as there. Each answer's `generation_info` has
    `usage_metadata`, which counts what was read from the cache, and says for every span of the
    prompt where it came from.

    Raises PromptCacheError, of the kind that fits, for everything that a user can get wrong.
    """

    def front_of(self, prompt: BasePromptTemplate[Any], document_variable: str) -> Front:
        """The text that the template's prompts have in front of their documents."""
        return Front(preamble=text_before_documents(prompt, document_variable))

    def _convert_input(self, model_input: LanguageModelInput) -> PromptValue:
        """The prompt, of which only the text goes on: documents that it carries are registered
        here, so that they are found in it.
        """
        prompt = super()._convert_input(model_input)
        if isinstance(prompt, PMLPromptValue):
            self.engine.cache_documents(prompt.documents.values(), progress=False)
        return prompt

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """Answer the prompts at once, each as if asked alone; documents are held once for all.

        With `return_exceptions`, and where tokens are to be heard, each is a request of its own:
        one that fails is no other's failure then.
        """
        if return_exceptions or self.streaming:
            return Runnable.batch(
                self, inputs, config, return_exceptions=return_exceptions, **kwargs
            )
        return super().batch(inputs, config, **kwargs)

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: Configs = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[str]:
        """`batch`, with the event loop free."""
        if return_exceptions or self.streaming:
            return await Runnable.abatch(
                self, inputs, config, return_exceptions=return_exceptions, **kwargs
            )
        return await super().abatch(inputs, config, **kwargs)

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1:
            heard = run_manager if self.streaming else None
            answers = [generation_of(self._stream(prompts[0], stop, heard, **kwargs))]
        else:
            answers = list(self._together(prompts, stop, kwargs))
        return result_of(answers, self.model)

    async def _agenerate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> LLMResult:
        if len(prompts) == 1:
            heard = run_manager if self.streaming else None
            chunks = self._astream(prompts[0], stop, heard, **kwargs)
            answers = [generation_of([chunk async for chunk in chunks])]
        else:
            together = in_thread(lambda: self._together(prompts, stop, kwargs))
            answers = [answer async for answer in together]
        return result_of(answers, self.model)

    def _together(
        self, prompts: list[str], stop: list[str] | None, given: Mapping[str, Any]
    ) -> Generator[Generation]:
        """The answers to several prompts, whose tokens nobody hears: LangChain gives one run for
        all of them, so nobody could tell them apart.
        """
        for reply in self.engine.batch_text(prompts, **self.request_options(stop, given)):
            yield generation_of([chunk_of(reply.text), last_chunk_of(reply)])

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Generator[GenerationChunk]:
        options = self.request_options(stop, kwargs)
        with self.engine.stream_text(prompt, **options) as stream:
            for piece in stream:
                chunk = chunk_of(piece)
                if run_manager is not None:
                    run_manager.on_llm_new_token(piece, chunk=chunk)
                yield chunk
            yield last_chunk_of(stream.reply)

    async def _astream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[GenerationChunk]:
        async for chunk in in_thread(lambda: self._stream(prompt, stop, **kwargs)):
            if run_manager is not None and chunk.text:
                await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
            yield chunk

    @property
    def _llm_type(self) -> str:
        return "promptcache"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        return self.identifying_settings()

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=self.stop_strings(stop), **kwargs)
        params["ls_provider"] = "promptcache"
        return params
