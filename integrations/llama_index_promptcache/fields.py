"""The settings of PromptCacheLLM as fields: checked, copied, written, and handed to requests.

Knows nothing of how the engine is made, of messages or of templates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, Self

from llama_index.core.bridge.pydantic import ConfigDict, Field, field_serializer, field_validator
from llama_index.core.callbacks import CallbackManager
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.schema import BaseComponent
from llama_index.core.types import BaseOutputParser
from pydantic import PrivateAttr, SkipValidation, ValidationInfo
from pydantic_core import PydanticCustomError

from llama_index_promptcache.written import is_plain, read_back
from promptcache import ReusePolicy
from promptcache.errors import OptionError
from promptcache.options import checked_policy
from promptcache.parameters import Engine, options_of_request, with_our_names

ALIASES = {
    "max_tokens": "max_new_tokens",
    "stop_sequences": "stop",
}
"""Names from other LlamaIndex classes, and ours."""

DOCUMENT_VARIABLES = ("context_str", "context_msg")
"""The variables that LlamaIndex's own templates put nodes into."""

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


class Fields(BaseComponent):
    """The settings of an LLM that are its fields. One that is None is left to the model."""

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
