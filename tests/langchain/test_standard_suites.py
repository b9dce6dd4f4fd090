"""LangChain's own tests of a chat model, on a tiny random one that writes what a script says.

Every test runs but those of other models behind one object, of images, sound and PDF, and of
recorded traffic.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from langchain_promptcache import ChatPromptCache
from support.rag import DOCUMENTS, PROMPT, tiny_engine
from support.scripted import Script, call, tool_engine

CALLS = {
    "magic_function": {"input": 3},
    "magic_function_no_args": {},
    "my_adder_tool": {"a": 3, "b": 4},
    "get_weather": {"location": "San Francisco, CA"},
    "greeting_generator": {"answer_style": "Pirate"},
    "unicode_customer": {"customer_name": "你好 こんにちは", "description": "A company."},
    "Joke": {"setup": "Why do cats sit?", "punchline": "They may."},
    "JokeDict": {"setup": "Why do cats sit?", "punchline": "They may."},
}
DETAILS = ["cache_read_input", "cache_creation_input"]
shared_engine = cache(tool_engine)


def respond(prompt: str) -> str:
    """A call of the first tool there is, until it has answered; JSON where that is asked for."""
    if "Return nothing other than JSON" in prompt:
        return json.dumps(CALLS["Joke"])
    tools = re.findall(r'"function": {"name": "(\w+)"', prompt)
    if not tools or prompt.endswith("</tool_response><|im_end|>\n"):
        return "Hello to you, and good night."
    return call(tools[0], **CALLS[tools[0]])


class Declared:
    """What this chat model is, and which of the optional tests it takes."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatPromptCache

    @property
    def chat_model_params(self) -> dict[str, Any]:
        script = {"logits_processor": [Script(respond)]}
        return {"engine": shared_engine(), "generation_kwargs": script}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

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
