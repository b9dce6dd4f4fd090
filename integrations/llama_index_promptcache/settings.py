"""What is set on PromptCacheLLM: which engine it uses, and how it generates.

Knows nothing of messages or templates. The names are those that users of LlamaIndex's
HuggingFaceLLM know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Annotated, Any, NoReturn, Self

from llama_index.core.bridge.pydantic import (
    ConfigDict,
    Field,
    ValidationError,
    field_serializer,
    field_validator,
)
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import BaseComponent
from llama_index.core.types import BaseOutputParser
from pydantic import PrivateAttr, SkipValidation, ValidationInfo
from pydantic_core import PydanticCustomError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from llama_index_promptcache.loading import OF_LOADING, around, loaded, name_of
from llama_index_promptcache.written import as_written, is_plain, read_back
from promptcache import Expected, Modular, PromptCache, ReusePolicy
from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS, check_option
from promptcache.options import RequestOptions, checked_policy
from promptcache.parameters import (
    OF_FROM_PRETRAINED,
    Engine,
    check_engine,
    check_remote,
    connected,
    options_of_request,
    refuse_unknown,
    sentence_of,
    with_our_names,
)
from promptcache.store import StoreLike

ALIASES = {
    "max_tokens": "max_new_tokens",
    "stop_sequences": "stop",
}
"""Names from other LlamaIndex classes, and ours."""

DOCUMENT_VARIABLES = ("context_str", "context_msg")
"""The variables that LlamaIndex's own templates put nodes into."""

ELSEWHERE = {"generate_kwargs": OPTIONS, "model_kwargs": OF_FROM_PRETRAINED}
"""The parameters that take other names, and which."""

OF_GENERATION = (
    "max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop",
    "reuse",
)  # fmt: skip
"""The settings that every request may name anew."""

KINDS = {
    "callback_manager": CallbackManager,
    "output_parser": BaseOutputParser,
    "rate_limiter": BaseRateLimiter,
}
"""What is expected of LlamaIndex's own fields, where it does not say so itself."""

SHARED = ("engine", "callback_manager", "rate_limiter", "reuse")
"""What copies of an LLM have in common: one model, and what listens to it."""


class EngineSettings(BaseComponent):
    """The settings of an LLM that stand on an engine. One that is None is left to the model."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model_name: str = Field(default="pocket", description="pocket, a folder, or a hub name")
    context_window: int | None = Field(
        default=None,
        gt=0,
        description="The tokens that prompts and answers may have; at most the model's own window.",
    )
    is_chat_model: bool | None = Field(
        default=None,
        description="Whether prompts are chat messages; default: if there is a chat template.",
    )
    document_variables: tuple[str, ...] = Field(
        default=DOCUMENT_VARIABLES, description="The variables of templates that hold documents."
    )
    cut_passages: bool = Field(
        default=True,
        description=(
            "Whether text in these variables that is no registered document is cut at blank "
            "lines, where LlamaIndex joins nodes, into modules of their own."
        ),
    )

    max_new_tokens: int | None = Field(default=None, gt=0)
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    generate_kwargs: dict[str, Any] = Field(
        default_factory=dict, description="Other generation options of transformers, by name."
    )
    reuse: Annotated[ReusePolicy | None, SkipValidation] = Field(
        default=None, exclude=True, description="Which cached tokens are computed again."
    )
    engine: Annotated[Engine, SkipValidation] = Field(exclude=True, repr=False)

    _written: dict[str, Any] = PrivateAttr(default_factory=dict)
    """What a dict says of how the engine was made."""

    def __init__(
        self,
        model_name: str | PathLike[str] | None = None,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        engine: Engine | None = None,
        base_url: str | None = None,
        api_key: str | None = None,
        timeout: float | None = None,
        max_retries: int | None = None,
        tokenizer_name: str | PathLike[str] | None = None,
        device_map: Any = "auto",
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        revision: str | None = None,
        dtype: str | None = None,
        store: StoreLike | None = None,
        namespace: str | None = None,
        compression: str | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        context: str | Expected | None = None,
        conversations: bool | None = None,
        graphs: bool | None = None,
        continuous_batching: bool | None = None,
        max_concurrent: int | None = None,
        stopping_ids: Sequence[int] | None = None,
        tokenizer_outputs_to_remove: Sequence[str] | None = None,
        **settings: Any,
    ) -> None:
        """Load the model, unless there is an `engine`; `settings` are this class's fields.

        With `base_url` the engine is that of a `promptcache serve` there, in the namespace of
        `api_key`; `timeout` is in seconds, for a connection and for every wait for more of an
        answer, and a server that is full is asked again `max_retries` times.

        `device_map` names one device, "auto" the GPU if there is one. `stopping_ids` are tokens
        that end an answer beside the model's own. `context` is what modules are encoded after:
        "preamble", "expected" or "bare", and `compression` what their states are rounded to, "int8"
        or "int4"; `graphs` lets forwards be recorded on a GPU, `continuous_batching` lets requests
        that run at once share them, and `max_concurrent` is how many are answered at once (see
        `PromptCache`). `tokenizer_outputs_to_remove` asks
        for nothing: token ids are all that the model is given of its tokenizer's. Raises
        OptionError for a name or a value that cannot be used, ModelError for a model that cannot
        be loaded.
        """
        server = {
            "base_url": base_url,
            "api_key": api_key,
            "timeout": timeout,
            "max_retries": max_retries,
        }
        server = {name: value for name, value in server.items() if value is not None}
        settings = with_our_names({**settings, **server}, ALIASES)
        server = {name: settings.pop(name) for name in server if name in settings}
        refuse_unknown(settings, type(self).model_fields, [*ALIASES, *OF_LOADING], ELSEWHERE)
        wrapper = settings.get("query_wrapper_prompt")
        if isinstance(wrapper, str):
            settings["query_wrapper_prompt"] = PromptTemplate(wrapper)
        given = {
            "tokenizer_name": tokenizer_name,
            "model_kwargs": model_kwargs,
            "tokenizer_kwargs": tokenizer_kwargs,
            "revision": revision,
            "dtype": dtype,
            "store": store,
            "namespace": namespace,
            "compression": compression,
            "chat_template": chat_template,
            "chat_template_kwargs": chat_template_kwargs,
            "context": context,
            "conversations": conversations,
            "graphs": graphs,
            "continuous_batching": continuous_batching,
            "max_concurrent": max_concurrent,
        }
        options = {name: value for name, value in given.items() if value is not None}
        said = {name: value for name, value in settings.items() if value is not None}
        try:
            super().__init__(**{"engine": engine, **said})
        except ValidationError as error:
            raise OptionError(sentence_of(error.errors()[0])) from None
        more_ends = _stopping_ids(stopping_ids)
        RequestOptions.parse(self.request_options({}), Modular())

        # Nothing is loaded when anything else is wrong.
        placed = {} if device_map in (None, "auto") else {"device_map": device_map}
        objects = {"model": model, "tokenizer": tokenizer}
        objects = {name: value for name, value in objects.items() if value is not None}
        served = {} if engine is None else {"engine": engine}
        self._written = as_written({**said, **options, **placed, **objects, **served, **server})
        if engine is not None:
            check_engine(
                engine,
                name_of(model_name),
                {**objects, **options, **placed, **server},
                called="model_name",
            )
        elif server:
            ending = {"stopping_ids": more_ends} if more_ends else {}
            check_remote({**objects, **options, **placed, **ending}, self.request_options({}))
            self.engine = connected(server)
            check_engine(self.engine, name_of(model_name), (), called="model_name")
        elif objects:
            self.engine = around(model, tokenizer, model_name, {**options, **placed})
        else:
            self.engine = loaded(model_name, device_map, options)
        self.model_name = self.engine.name
        if more_ends and isinstance(self.engine, PromptCache):
            ends = self.generate_kwargs.get("eos_token_id")
            ends = sorted(self.engine.end_tokens) if ends is None else ends
            ends = [ends] if isinstance(ends, int) else ends
            self.generate_kwargs = {**self.generate_kwargs, "eos_token_id": [*ends, *more_ends]}

    @field_validator(*KINDS, mode="before", check_fields=False)
    @classmethod
    def _check_kind(cls, given: object, about: ValidationInfo) -> object:
        """LlamaIndex takes any value for these."""
        kind = KINDS[str(about.field_name)]
        if given is not None and not isinstance(given, kind):
            raise PydanticCustomError("kind", "expected a {kind}", {"kind": kind.__name__})
        return given

    @field_validator("reuse", mode="before")
    @classmethod
    def _check_reuse(cls, given: object) -> ReusePolicy | None:
        return checked_policy(given, None)

    @field_serializer("generate_kwargs")
    def _plain(self, given: dict[str, Any]) -> dict[str, Any]:
        return {n: value if is_plain(value) else repr(value) for n, value in given.items()}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The settings as plain values, `reuse` as its text; `from_dict` makes another LLM of them.

        Not in it: loaded objects, `model_kwargs`, `tokenizer_kwargs`, the store, and LlamaIndex's
        functions and parsers; `left_out` names those that were given.
        """
        reuse = {} if self.reuse is None else {"reuse": str(self.reuse)}
        return {**super().to_dict(**kwargs), **self._written, **reuse}

    @classmethod
    def from_dict(cls, data: dict[str, Any], **kwargs: Any) -> Self:
        """Another LLM of what `to_dict` wrote; `kwargs` are parameters that stand above it.

        A line is logged for what was not written and is not given. Raises OptionError where the
        model was given as an object and there is none in `kwargs`, and for a `reuse` that is no
        policy of promptcache's.
        """
        return super().from_dict(read_back(data, kwargs))

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        """A copy with settings of its own, on the same engine."""
        memo = {} if memo is None else memo
        for shared in (getattr(self, name) for name in SHARED):
            memo[id(shared)] = shared
        return super().__deepcopy__(memo)

    def __getstate__(self) -> NoReturn:
        """Pickled, an LLM would be its model."""
        raise OptionError(
            f"a {type(self).__name__} cannot be pickled: it holds a loaded model. Make one in each "
            "process, for a model with a name by from_dict(llm.to_dict())"
        )

    @property
    def window(self) -> int | None:
        """The tokens that a prompt and its answer have room for; None where nothing limits them."""
        limits = [n for n in (self.context_window, self.engine.window) if n is not None]
        return min(limits, default=None)

    @property
    def answer_tokens(self) -> int:
        """The most tokens that an answer has."""
        asked = self.max_new_tokens or with_our_names(self.generate_kwargs, ALIASES).get(
            "max_new_tokens"
        )
        return asked or self.engine.default_new_tokens

    def request_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The engine's options for a request; what the call gives stands above what is set here.

        Names that the engine does not know are refused there.
        """
        set_here = {name: getattr(self, name) for name in OF_GENERATION}
        return options_of_request(self.generate_kwargs, set_here, given, ALIASES)


def _stopping_ids(given: object) -> list[int]:
    if given is None or (isinstance(given, Sequence) and not given):
        return []
    try:
        ids = check_option("eos_token_id", given)
    except OptionError:
        raise OptionError(f"stopping_ids={given!r:.80} is not a list of token ids") from None
    return [ids] if isinstance(ids, int) else list(ids)
