"""How what an LLM is asked gets to its engine: as text, as messages, or as PML.

Knows no responses and no callbacks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.generic_utils import messages_to_prompt as generic_prompt
from llama_index.core.llms import ChatMessage, MessageRole
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.llm import default_completion_to_prompt
from pydantic import PrivateAttr

from llama_index_promptcache.framing import (
    FramedPrompt,
    formatted_messages,
    formatted_text,
    parts_of,
)
from llama_index_promptcache.messages import to_engine
from llama_index_promptcache.settings import EngineSettings
from llama_index_promptcache.translation import TranslatedMessages
from promptcache import Reply
from promptcache.errors import TemplateError
from promptcache.remote.stream import RemoteStream
from promptcache.stream import Stream

log = logging.getLogger("promptcache")

Prompt = str | Sequence[ChatMessage]

SYSTEM = (MessageRole.SYSTEM, MessageRole.DEVELOPER)
OF_TOOLS = frozenset({"tools", "tool_choice"})
"""The options of a request that only the chat template has a use for."""


class Asking(EngineSettings, FunctionCallingLLM):
    """An LLM's side towards its engine."""

    _warned: bool = PrivateAttr(default=False)
    """Whether it was said that a text spells control tokens, which it cannot have."""

    def _answer(self, prompt: Prompt, given: Mapping[str, Any]) -> Generator[str | Reply]:
        """The pieces of an answer's text, and then all of it."""
        with self._begun(prompt, given) as stream:
            yield from stream
            yield stream.reply

    def _begun(self, prompt: Prompt, given: Mapping[str, Any]) -> Stream | RemoteStream:
        options = self.request_options(given)
        options.pop("parallel_tool_calls", None)
        if self.context_window is not None:
            options.setdefault("window", self.context_window)
        if isinstance(prompt, str):
            return self._continued(prompt, options)
        said = prompt.translation if isinstance(prompt, TranslatedMessages) else None
        if said is not None and not options.keys() & OF_TOOLS:
            return self.engine.stream(
                said.prompt,
                schema=said.schema,
                documents=said.documents,
                **{"passages": said.passages, "notes": said.notes, **options},
            )
        told = to_engine(self._spoken(prompt))  # refuses what is no text
        if self._writes_text:
            text = formatted_messages(self._as_text, prompt)
            return self._continued(text, _without_tools(options))
        return self.engine.stream_messages(told, **options)

    def _continued(self, text: str, options: Mapping[str, Any]) -> Stream | RemoteStream:
        framed = self._warned or isinstance(text, FramedPrompt)
        known = () if framed else self.engine.control_tokens
        if spelled := [token for token in known if token in text]:
            self._warned = True
            log.warning(
                "the prompt spells %s, which are plain text to the model: control tokens are "
                "written by a chat template, or by a messages_to_prompt or "
                "completion_to_prompt that puts texts into others and does not change them",
                ", ".join(map(repr, spelled)),
            )
        return self.engine.stream_text(parts_of(text), **options)

    @property
    def _chats(self) -> bool:
        given = self.is_chat_model
        return self.engine.has_chat_template if given is None else given

    @property
    def _takes_no_system(self) -> bool:
        return not self._writes_text and not self.engine.takes_system

    def _spoken(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """The messages; a system message is the user's where the chat template takes none.

        LlamaIndex's own templates have one, and chat templates refuse it (Gemma's, for one).
        """
        if not self._takes_no_system:
            return list(messages)
        as_user = {"role": MessageRole.USER}
        return [m.model_copy(update=as_user) if m.role in SYSTEM else m for m in messages]

    @property
    def _as_text(self) -> Callable[[Sequence[ChatMessage]], str]:
        return self.messages_to_prompt or generic_prompt

    @property
    def _writes_text(self) -> bool:
        """Whether messages become text without the chat template."""
        return self._as_text is not generic_prompt or not self.engine.has_chat_template

    def _asked(self, prompt: str, formatted: bool) -> Prompt:
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
            return formatted_text(as_prompt, prompt)
        if self._chats:
            return self._extend_messages([ChatMessage(prompt, role=MessageRole.USER)])
        return f"{self.system_prompt}\n\n{prompt}" if self.system_prompt else prompt


def _without_tools(options: Mapping[str, Any]) -> dict[str, Any]:
    """A request's options where there is no chat template that could tell of tools."""
    if options.get("tools"):
        raise TemplateError(
            "tools were given, but messages become text here without a chat template, which "
            "would tell the model of them; leave messages_to_prompt out, or give chat_template="
        )
    return {name: value for name, value in options.items() if name not in OF_TOOLS}
