"""What is set on a LangChain model class of ours: which engine it uses, and how it generates.

Shared by every such class. Knows nothing of messages or LangChain's results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath
from typing import Annotated, Any, Literal, Self

from langchain_core.documents import Document
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    SecretStr,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)

from langchain_promptcache.documents import text_of
from promptcache import Expected, Modular, PromptCache, ReusePolicy
from promptcache.errors import OptionError
from promptcache.model.generation import OPTIONS
from promptcache.options import RequestOptions, checked_policy
from promptcache.parameters import (
    OF_FROM_PRETRAINED,
    OF_SERVERS,
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

OF_LOADING = (
    "revision", "device", "dtype", "model_kwargs", "store", "namespace", "compression",
    "chat_template", "chat_template_kwargs", "context", "conversations", "graphs",
    "continuous_batching", "max_concurrent",
)  # fmt: skip
"""The settings that only matter while the engine is made, beside the model's name."""
OF_GENERATION = (
    "max_tokens", "temperature", "top_p", "top_k", "repetition_penalty", "seed", "stop", "reuse",
)  # fmt: skip
"""The settings that every request may name anew."""
ALIASES = {
    "max_new_tokens": "max_tokens",
    "model_id": "model",
    "model_name": "model",
    "pipeline_kwargs": "generation_kwargs",
    "stop_sequences": "stop",
}
"""Names from other LangChain classes, and ours."""
ELSEWHERE = {"generation_kwargs": OPTIONS, "model_kwargs": OF_FROM_PRETRAINED}
"""The settings that are dicts of options, and which options each of them takes."""


def _loaded(settings: dict[str, Any]) -> Engine:
    if settings["base_url"] is not None:
        return connected(settings)
    options = {name: settings[name] for name in OF_LOADING}
    return PromptCache.from_pretrained(settings["model"], **options)


class EngineSettings(BaseModel):
    """The engine behind a LangChain class, and the generation settings of its requests.

    The engine is loaded when the object is made, or is the one given as `engine=`, or that of the
    server at `base_url=`; copies share it. A setting that is None is left to the model's own
    generation config. What cannot be used raises OptionError, a model that cannot be loaded
    ModelError, a server that does not answer RemoteError.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    base_url: str | None = None
    """Where a `promptcache serve` has the engine, such as "http://127.0.0.1:8000"."""
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    timeout: float | None = None
    """Seconds for a connection, and for every wait for more of an answer; default: 300."""
    max_retries: int | None = None
    """How often a server that is full or cannot be reached is asked again; default: 2."""
    model: str = "pocket"
    """"pocket", a folder, or a name on the Hugging Face hub."""
    revision: str | None = None
    device: str | None = None
    dtype: str = "auto"
    model_kwargs: dict[str, Any] = Field(default_factory=dict)
    """What transformers' `from_pretrained` takes besides."""
    store: Annotated[StoreLike | None, SkipValidation] = Field(
        default=None, exclude=True, repr=False
    )
    """Where attention states are kept: a store, a folder, a URL, or several; default: memory."""
    namespace: str = ""
    """Keeps tenants apart: modules of one are never found by another."""
    compression: str | None = None
    """What attention states are rounded to, to take fewer bytes on disk: "int8" or "int4"."""
    chat_template: str | None = Field(default=None, repr=False)
    chat_template_kwargs: dict[str, Any] = Field(default_factory=dict)
    context: Annotated[str | Expected, SkipValidation] = "preamble"
    """What modules are encoded after: "preamble", "expected" or "bare" (see `PromptCache`)."""
    conversations: bool = True
    """Whether what a prompt and its answer computed is kept for a next turn."""
    graphs: bool = False
    """Whether forwards over few tokens are recorded as CUDA graphs and replayed, on a GPU."""
    continuous_batching: bool = False
    """Whether the tokens of requests that run at once share their forwards (see `PromptCache`)."""
    max_concurrent: int | None = None
    """How many requests may be answered at once; the others wait."""
    reuse: ReusePolicy | None = None
    """Which cached tokens are computed again; default: the engine's own policy."""

    max_tokens: int | None = None
    temperature: float | None = None
    """0 is greedy; above, answers are sampled."""
    top_p: float | None = None
    top_k: int | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | str | None = None
    """Strings that end an answer and are not part of it."""
    generation_kwargs: dict[str, Any] = Field(default_factory=dict)
    """Other generation options of transformers, by name."""
    streaming: bool | None = None
    """Whether `invoke` streams inside, for callbacks that listen to tokens."""

    custom_get_token_ids: Callable[[str], list[int]] | None = Field(default=None, exclude=True)
    """Counts tokens in place of the model's own tokenizer; LangChain's own field."""

    # Last, so that nothing is loaded when another field is wrong.
    engine: Annotated[Engine, SkipValidation] = Field(
        default_factory=_loaded, exclude=True, repr=False
    )
    """The loaded model and its cache; several objects may share one."""

    @model_validator(mode="wrap")
    @classmethod
    def _made(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if not isinstance(given, Mapping):
            return handler(given)
        settings = with_our_names(given, ALIASES)
        refuse_unknown(settings, cls.model_fields, ALIASES, ELSEWHERE)
        _check_generation(settings)
        if isinstance(settings.get("model"), PathLike):
            settings["model"] = fspath(settings["model"])
        remote = settings.get("base_url") is not None
        if settings.get("engine") is None:
            settings.pop("engine", None)
            if remote:
                loading = [name for name in OF_LOADING if settings.get(name) is not None]
                check_remote(loading, _generation(settings, {}))
        else:
            # LangChain's configurable fields make copies, for which every field is named.
            is_copy = given.keys() >= cls.model_fields.keys()
            also = [*OF_LOADING, *OF_SERVERS]
            options = () if is_copy else [name for name in also if name in settings]
            check_engine(settings["engine"], settings.get("model"), options, called="model")
            settings["model"] = settings["engine"].name
        try:
            made = handler(settings)
        except ValidationError as error:
            raise OptionError(sentence_of(error.errors()[0])) from None
        if remote:
            check_engine(made.engine, settings.get("model"), (), called="model")
            made.model = made.engine.name
        return made

    @field_validator("reuse", mode="before")
    @classmethod
    def _check_reuse(cls, given: object) -> ReusePolicy | None:
        return checked_policy(given, None)

    @classmethod
    def from_model_id(
        cls, model_id: str, *, task: Literal["text-generation"] = "text-generation", **settings: Any
    ) -> Self:
        """The constructor that users of LangChain's Hugging Face classes know."""
        del task
        return cls(model=model_id, **settings)

    def get_token_ids(self, text: str) -> list[int]:
        """The ids of a text's tokens, without any that a template adds."""
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        return self.engine.token_ids(text)

    def stop_strings(self, stop: list[str] | None) -> list[str] | None:
        """The strings that end an answer: the call's, or else those that are set here."""
        if stop is not None:
            return stop
        return [self.stop] if isinstance(self.stop, str) else self.stop

    def request_options(
        self, stop: Sequence[str] | None, given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The engine's options for a request; what the call gives stands above what is set here.

        Raises OptionError for another model than the loaded one; names that the engine does not
        know are refused there.
        """
        asked = _generation(dict(self), given)
        asked.pop("stream", None)  # LangChain's own, settled by the method it has called
        if isinstance(asked.get("expected"), list | tuple):
            asked["expected"] = [
                text_of(each) if isinstance(each, Document) else each for each in asked["expected"]
            ]
        model = asked.pop("model", self.model)
        if model != self.model:
            raise OptionError(
                f"model={model!r} was asked for in a call, but {self.model!r} is loaded; "
                f"make another {type(self).__name__} for another model"
            )
        if stop is not None:
            asked["stop"] = stop
        return asked

    def identifying_settings(self) -> dict[str, Any]:
        """Plain values that tell apart two objects whose answers may differ.

        The engine's fingerprint stands for its template, its `model_kwargs` (which may hold an
        access token) and all else that it was made with.
        """
        return {
            "model": self.model,
            "revision": self.revision,
            "device": self.device,
            "dtype": self.dtype,
            "engine": self.engine.fingerprint,
            **{name: getattr(self, name) for name in OF_GENERATION},
            "reuse": str(self.reuse or self.engine.reuse),
            "stop_sequences": self.stop,  # in its caches' keys LangChain sets `stop` to the call's
            "generation_kwargs": self.generation_kwargs,
        }


def _generation(settings: Mapping[str, Any], call: Mapping[str, Any]) -> dict[str, Any]:
    """The options of generation that are set, and above them a call's."""
    set_here = {name: settings.get(name) for name in OF_GENERATION}
    asked = options_of_request(settings.get("generation_kwargs") or {}, set_here, call, ALIASES)
    if "max_tokens" in asked:
        asked["max_new_tokens"] = asked.pop("max_tokens")
    return asked


def _check_generation(settings: Mapping[str, Any]) -> None:
    """Raise OptionError for an option of generation that a request would be refused for."""
    if isinstance(settings.get("generation_kwargs", {}), Mapping):
        RequestOptions.parse(_generation(settings, {}), Modular())
