"""What is set on PromptCacheLLM: which engine it uses, and how it generates.

Knows nothing of messages or templates. The names are those that users of LlamaIndex's
HuggingFaceLLM know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from typing import Annotated, Any

import torch
from llama_index.core.bridge.pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic import SkipValidation
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from promptcache import Modular, PromptCache, ReusePolicy, Store
from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS
from promptcache.options import checked_policy
from promptcache.parameters import OF_FROM_PRETRAINED, refuse_unknown, with_our_names

ALIASES = {
    "max_tokens": "max_new_tokens",
    "stop_sequences": "stop",
}
"""Names from other LlamaIndex classes, and ours."""

DOCUMENT_VARIABLES = ("context_str", "context_msg")
"""The variables that LlamaIndex's own templates put nodes into."""

OF_LOADING = (
    "chat_template", "chat_template_kwargs", "conversations", "device_map", "dtype", "engine",
    "model", "model_kwargs", "namespace", "revision", "stopping_ids", "store", "tokenizer",
    "tokenizer_kwargs", "tokenizer_name",
)  # fmt: skip
"""What only matters while the engine is made."""

ELSEWHERE = {"generate_kwargs": OPTIONS, "model_kwargs": OF_FROM_PRETRAINED}
"""The parameters that take other names, and which."""

OF_FILES = ("tokenizer", "revision", "dtype", "model_kwargs", "tokenizer_kwargs")
"""The arguments of loading that say how files are read."""

OF_GENERATION = (
    "max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop",
    "reuse",
)  # fmt: skip
"""The settings that every request may name anew."""


class EngineSettings(BaseModel):
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
    engine: Annotated[PromptCache, SkipValidation] = Field(exclude=True, repr=False)

    def __init__(
        self,
        model_name: str | PathLike[str] | None = None,
        *,
        model: PreTrainedModel | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        engine: PromptCache | None = None,
        tokenizer_name: str | PathLike[str] | None = None,
        device_map: str | int | Mapping[str, Any] | None = "auto",
        model_kwargs: Mapping[str, Any] | None = None,
        tokenizer_kwargs: Mapping[str, Any] | None = None,
        revision: str | None = None,
        dtype: str | None = None,
        store: Store | None = None,
        namespace: str | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        conversations: bool | None = None,
        stopping_ids: Sequence[int] | None = None,
        **settings: Any,
    ) -> None:
        """Load the model, unless there is an `engine`; `settings` are this class's fields.

        `device_map` names one device, "auto" the GPU if there is one. `stopping_ids` are tokens
        that end an answer beside the model's own. Raises OptionError for a name or a value that
        cannot be used, ModelError for a model that cannot be loaded.
        """
        settings = with_our_names(settings, ALIASES)
        refuse_unknown(settings, type(self).model_fields, [*ALIASES, *OF_LOADING], ELSEWHERE)
        given = {
            "tokenizer": tokenizer_name,
            "model_kwargs": model_kwargs,
            "tokenizer_kwargs": tokenizer_kwargs,
            "revision": revision,
            "dtype": dtype,
            "store": store,
            "namespace": namespace,
            "chat_template": chat_template,
            "chat_template_kwargs": chat_template_kwargs,
            "conversations": conversations,
        }
        options = {name: value for name, value in given.items() if value is not None}
        if engine is None:
            engine = engine_of(model_name, model, tokenizer, device_map, options)
        else:
            _check_engine(engine, model_name, {**options, "model": model, "tokenizer": tokenizer})
        if stopping_ids is not None:
            ends = {"eos_token_id": [*sorted(engine.end_tokens), *stopping_ids]}
            settings["generate_kwargs"] = ends | settings.get("generate_kwargs", {})
        try:
            super().__init__(model_name=engine.name, engine=engine, **settings)
        except ValidationError as error:
            raise OptionError(_sentence_of(error)) from None

    @field_validator("reuse", mode="before")
    @classmethod
    def _check_reuse(cls, given: object) -> ReusePolicy | None:
        return None if given is None else checked_policy(given, Modular())

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
        asked = with_our_names(self.generate_kwargs, ALIASES)
        asked |= {name: value for name, value in set_here.items() if value is not None}
        asked |= with_our_names(given, ALIASES)
        return {name: value for name, value in asked.items() if value is not None}


def engine_of(
    model_name: str | PathLike[str] | None,
    model: PreTrainedModel | None,
    tokenizer: PreTrainedTokenizerBase | None,
    device_map: object,
    options: Mapping[str, Any],
) -> PromptCache:
    """The engine for a model by name, or for the objects of one.

    `options` are further arguments of `PromptCache.from_pretrained`. Raises OptionError for
    arguments that contradict each other, ModelError for a model that cannot be loaded.
    """
    if model is None and tokenizer is None:
        name = "pocket" if model_name is None else fspath(model_name)
        return PromptCache.from_pretrained(name, device=_device(device_map), **options)
    if model is None or tokenizer is None:
        there, missing = ("model", "tokenizer") if tokenizer is None else ("tokenizer", "model")
        raise OptionError(f"{there}= was given without {missing}=; promptcache takes both objects")
    for name in OF_FILES:
        if name in options:
            raise OptionError(f"{name}= has no effect beside model= and tokenizer= objects")
    called = None if model_name is None else fspath(model_name)
    return PromptCache(model, tokenizer, name=called, **options)


def _check_engine(engine: object, model_name: object, given: Mapping[str, Any]) -> None:
    if not isinstance(engine, PromptCache):
        raise OptionError(f"engine={engine!r:.80} is not a PromptCache")
    if model_name not in (None, engine.name):
        raise OptionError(
            f"model_name={model_name!r} was given with an engine that serves {engine.name!r}: give "
            "one of the two"
        )
    for name, value in given.items():
        if value is not None:
            raise OptionError(
                f"{name}= has no effect on an engine that is loaded already; give it to "
                "PromptCache.from_pretrained"
            )


def _device(device_map: object) -> str | None:
    """The one device that a map of HuggingFaceLLM's kind stands for."""
    if device_map == "auto":
        return "cuda" if torch.cuda.is_available() else None
    if isinstance(device_map, Mapping) and len(set(device_map.values())) == 1:
        device_map = next(iter(device_map.values()))
    if isinstance(device_map, int):
        return f"cuda:{device_map}"
    if device_map is None or isinstance(device_map, str):
        return device_map
    raise OptionError(
        f"device_map={device_map!r:.80} is not one device; promptcache serves models that are on "
        "one, for example 'cpu', 'cuda' or 'cuda:0'"
    )


def _sentence_of(error: ValidationError) -> str:
    """The first of pydantic's objections."""
    first = error.errors()[0]
    name, said = ".".join(map(str, first["loc"])) or "the whole", first["msg"]
    return f"{name}={first['input']!r:.80} is not valid: {said[0].lower()}{said[1:]}"
