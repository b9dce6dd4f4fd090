"""Bodies of requests: read within a limit, checked field by field, never silently in part.

What OpenAI's API has and promptcache has not is taken with the value that asks for nothing, and
refused by name with any other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from fastapi import Request
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from promptcache.errors import valid
from promptcache.model.generation import shown
from promptcache.reuse.named import policy
from promptcache.server.failures import RefusedError

B = TypeVar("B", bound="Body")
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
Ignored = Any
"""A field that is about who asks, and changes no answer."""


class Body(BaseModel):
    """A body; it has the fields that are listed and no others."""

    model_config = ConfigDict(extra="forbid", strict=True)


class StreamOptions(Body):
    """What a stream is to have beside its text."""

    include_usage: bool = False
    include_obfuscation: Nothing = None


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
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")
        given: dict[str, Any] = {name: getattr(self, name) for name in names}
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

    prompt: str | list[str]

    best_of: Annotated[Any, only(1)] = None
    echo: Nothing = None
    suffix: Nothing = None

    def text(self) -> str:
        """The text. Raises RefusedError for several."""
        if isinstance(self.prompt, str):
            return self.prompt
        if len(self.prompt) == 1:
            return self.prompt[0]
        raise RefusedError(
            400,
            f"prompt has {len(self.prompt)} texts; this server continues one for each request",
            param="prompt",
            code="unsupported",
        )


class PMLBody(Generation):
    """A request for the answer to a prompt in PML, with documents of its own by name."""

    prompt: str
    documents: dict[str, str] | None = None


class DocumentsBody(Body):
    """Documents to register, and to encode if their context is known."""

    documents: list[str] | dict[str, str]
    schema_name: str | None = Field(None, alias="schema")
    preamble: str | None = None
    context: str | None = None
    progress: bool = False


def body_of(kind: type[B], most: int) -> Callable[[Request], Awaitable[B]]:
    """What reads a request's body as one of a kind; at most so many bytes."""

    async def read(request: Request) -> B:
        try:
            return kind.model_validate_json(await bytes_of(request, most))
        except ValidationError as error:
            raise _refusal(error.errors(include_url=False)[0], kind) from None

    return read


async def bytes_of(request: Request, most: int) -> bytes:
    """A request's body. Raises RefusedError for more than `most` bytes, without reading on."""
    told = request.headers.get("content-length", "")
    parts: list[bytes] = []
    size = int(told) if told.isdecimal() and told.isascii() and len(told) < 20 else 0
    if size <= most:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > most:
                break
            parts.append(part)
    if size > most:
        raise RefusedError(
            413,
            f"the body is longer than {most:,} bytes, the most that this server takes",
            code="body_too_large",
            headers={"Connection": "close"},
        )
    return b"".join(parts)


def _blocks(message: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The blocks of a message's content, of one that has text instead one with no type."""
    content = message.get("content")
    blocks = content if isinstance(content, list) else [content]
    return [block if isinstance(block, dict) else {} for block in blocks]


def _refusal(error: ErrorDetails, kind: type[Body]) -> RefusedError:
    """The first of what pydantic finds wrong, in a sentence."""
    if error["type"] == "json_invalid":
        return RefusedError(
            400, f"the body is no JSON: {error['ctx']['error']}", code="invalid_json"
        )
    place = [str(part) for part in error["loc"]]
    if not place:
        return RefusedError(400, "the body is no JSON object", code="invalid_body")
    field = place[0]
    if error["type"] == "extra_forbidden":
        where = ".".join(place)
        names = [f.alias or name for name, f in kind.model_fields.items()]
        hint = valid(field, names, what="fields") if len(place) == 1 else ""
        message, code = f"unknown field {where[:80]!r}{hint}", "unknown_field"
    elif error["type"] == "missing":
        message, code = f"the field {'.'.join(place)} is missing", "missing_field"
    elif error["type"] == "unsupported":
        message, code = f"{field}={shown(error['input'])} {error['msg']}", "unsupported"
    else:
        said = error["msg"][0].lower() + error["msg"][1:]
        message, code = f"{field}: {said}; it is {shown(error['input'])}", "invalid_value"
    return RefusedError(400, message, param=field[:80], code=code)
