"""LangChain's own tests of a chat model, on a tiny random one."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_promptcache import ChatPromptCache
from support.rag import DOCUMENTS, PROMPT, tiny_engine

DETAILS = ["cache_read_input", "cache_creation_input"]
shared_engine = cache(tiny_engine)


class Declared:
    """What this chat model is, and which of the optional tests it takes."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatPromptCache

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"engine": shared_engine()}

    @property
    def supports_model_override(self) -> bool:
        return False  # one object serves the one model that it has loaded

    @property
    def supported_usage_metadata_details(
        self,
    ) -> dict[Literal["invoke", "stream"], list[Any]]:
        return {"invoke": DETAILS, "stream": DETAILS}


class TestUnit(Declared, ChatModelUnitTests):
    """The unit tests."""


class TestIntegration(Declared, ChatModelIntegrationTests):
    """The integration tests; the model is in this process, so nothing leaves it."""

    def invoke_with_cache_creation_input(self, *, stream: bool = False) -> AIMessage:
        return self._answer(self._cached(), stream=stream)

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> AIMessage:
        llm = self._cached()
        self._answer(llm, stream=stream)
        return self._answer(llm, stream=stream)

    def _cached(self) -> ChatPromptCache:
        llm = ChatPromptCache(engine=tiny_engine(), max_tokens=8)
        llm.cache_documents(DOCUMENTS, progress=False)
        return llm

    def _answer(self, llm: ChatPromptCache, *, stream: bool) -> AIMessage:
        prompt = PROMPT.invoke({"context": DOCUMENTS[0].page_content, "input": "How tall?"})
        if not stream:
            return llm.invoke(prompt)
        chunks = list(llm.stream(prompt))
        return sum(chunks[1:], chunks[0])
