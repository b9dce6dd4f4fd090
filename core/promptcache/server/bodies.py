"""Bodies of requests: which fields there are and what they hold, none silently left out.

What OpenAI's API has and promptcache has not is taken with the value that asks for nothing, and
refused by name with any other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from promptcache.prompts import Frame, FramedText
from promptcache.reuse.named import policy
from promptcache.server.failures import RefusedError

PML = "pml"


def only(*accepted: object) -> AfterValidator:
    """A field that promptcache has not: None, or one of these values, which ask for nothing."""

    def check(value: object) -> object:
        if value is None or any(type(value) is type(a) and value == a for a in accepted):
            return value
        words = " or ".join(["nothing", *map(repr, accepted)])
        raise PydanticCustomError("unsupported", "is not supported; give {words}", {"words": words})

    return AfterValidator(check)


Nothing = Annotated[Any, only(False, 0, 0.0, "", [], {})]
"""A field that only values without any effect are taken for."""
OPTIONS = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop", "window",
    "expected", "passages", "notes",
)  # fmt: skip
"""The options that requests and engines call the same."""
Ignored = Any
"""A field that is about who asks, and changes no answer."""


class Body(BaseModel):
    """A body; it has the fields that are listed and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Body):
    """What a stream is to have beside its text."""

    include_usage: bool = False
    include_obfuscation: Nothing = None


class FramePart(Body):
    """Text of the format that a prompt is written in: it may spell control tokens."""

    frame: str


class Generation(Body):
    """What all requests for an answer may have."""

    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, ge=0, le=1)
    top_k: int | None = Field(None, ge=0)
    min_p: float | None = Field(None, ge=0, le=1)
    repetition_penalty: float | None = Field(None, gt=0)
    seed: int | None = None
    stop: Any = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    reuse: Annotated[str, Field(max_length=200)] | None = None
    trace: bool = False
    window: int | None = Field(None, gt=0)
    expected: list[str] | None = None
    passages: list[str] | None = None
    notes: list[str] | None = None

    n: Annotated[Any, only(1)] = None
    frequency_penalty: Nothing = None
    presence_penalty: Nothing = None
    logit_bias: Nothing = None
    logprobs: Nothing = None
    user: Ignored = None
    metadata: Ignored = None
    store: Ignored = None
    service_tier: Ignored = None
    safety_identifier: Ignored = None
    prompt_cache_key: Ignored = None
    prompt_cache_retention: Ignored = None

    def options(self) -> dict[str, Any]:
        """The engine's options. Raises OptionError for a reuse policy that there is not."""
        given: dict[str, Any] = {name: getattr(self, name) for name in OPTIONS}
        given["max_new_tokens"] = self.max_tokens
        given["reuse"] = None if self.reuse is None else policy(self.reuse)
        return {name: value for name, value in given.items() if value is not None}


class ChatBody(Generation):
    """A request for the next message of a chat."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Any = None

    parallel_tool_calls: Annotated[Any, only(True)] = None
    response_format: Annotated[Any, only({"type": "text"})] = None
    modalities: Annotated[Any, only(["text"])] = None
    top_logprobs: Nothing = None

    def options(self) -> dict[str, Any]:
        """The engine's options, tools among them."""
        given = super().options()
        if self.max_completion_tokens is not None:
            given["max_new_tokens"] = self.max_completion_tokens
        for name in ("tools", "tool_choice"):
            if value := getattr(self, name):
                given[name] = value
        return given

    def markup(self) -> str | None:
        """The PML that the messages are, if they are one block of it; see docs/serving.md.

        Raises RefusedError for PML beside something else: nothing says where that would stand.
        """
        blocks = [block for message in self.messages for block in _blocks(message)]
        found = [block for block in blocks if block.get("type") == PML]
        if not found:
            return None
        text = found[0].get(PML)
        alone = len(blocks) == len(self.messages) == 1 and set(found[0]) == {"type", PML}
        if not alone or not isinstance(text, str) or self.tools:
            raise RefusedError(
                400,
                "a block of PML is a whole prompt: give one message with one block "
                '{"type": "pml", "pml": "<prompt schema=...>...</prompt>"} and no tools',
                param="messages",
                code="invalid_pml_block",
            )
        return text


class CompletionBody(Generation):
    """A request for what follows a text."""

    prompt: str | list[str | FramePart]

    best_of: Annotated[Any, only(1)] = None
    echo: Nothing = None
    suffix: Nothing = None

    def text(self) -> FramedText:
        """The text, in parts where some are of its format. Raises RefusedError for several."""
        if isinstance(self.prompt, str) or any(isinstance(p, FramePart) for p in self.prompt):
            return framed(self.prompt)
        if len(self.prompt) == 1:
            return framed(self.prompt)
        raise RefusedError(
            400,
            f"prompt has {len(self.prompt)} texts; this server continues one for each request",
            param="prompt",
            code="unsupported",
        )

    def said(self) -> str:
        """The text in one piece."""
        text = self.text()
        parts = (text,) if isinstance(text, str) else text
        return "".join(part if isinstance(part, str) else part.text for part in parts)


class PMLBody(Generation):
    """A request for the answer to a prompt in PML, with a schema and documents of its own."""

    prompt: str
    own_schema: str | None = Field(None, alias="schema")
    documents: dict[str, str] | None = None


class DocumentsBody(Body):
    """Documents to register, and to encode if their context is known."""

    documents: list[str] | dict[str, str]
    schema_name: str | None = Field(None, alias="schema")
    preamble: str | list[str | FramePart] | None = None
    context: str | None = None
    progress: bool = False


class TextBody(Body):
    """A text that is asked about."""

    text: str


class TokensBody(Body):
    """A text, or chat messages, whose tokens are asked for."""

    text: str | None = None
    messages: list[dict[str, Any]] | None = None


class ForgetBody(Body):
    """Texts to take out of the register and the store."""

    documents: list[str]


def framed(text: str | Sequence[str | FramePart]) -> FramedText:
    """A text, or its parts, as the engine takes them."""
    if isinstance(text, str):
        return text
    return tuple(Frame(part.frame) if isinstance(part, FramePart) else part for part in text)


def _blocks(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The blocks of a message's content, of one that has text instead one with no type."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    return [block if isinstance(block, dict) else {} for block in blocks]
