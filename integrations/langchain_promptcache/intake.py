"""What retrievers and indexes of ours are given beside their own: a model, and its chain's prompt.

Knows how documents get to the model's engine, and nothing of where they come from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import RunnableBinding
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SkipValidation,
    ValidationError,
    field_validator,
    model_validator,
)

from langchain_promptcache.caching import DocumentCaching, Intake
from langchain_promptcache.templates import DOCUMENT_VARIABLE
from promptcache.errors import OptionError, kind_of
from promptcache.parameters import refuse_unknown, sentence_of


class DocumentIntake(BaseModel):
    """The part of a retriever or an index that hands documents to a model's engine."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    llm: Annotated[DocumentCaching, SkipValidation] = Field(exclude=True, repr=False)
    """Whose prompts will hold the documents."""
    prompt: Annotated[BasePromptTemplate[Any] | None, SkipValidation] = Field(
        default=None, exclude=True, repr=False
    )
    """The chain's prompt: documents are encoded after what it has in front of them. Without it
    they are registered, and encoded when a first request shows what stands before them."""
    document_variable: str = DOCUMENT_VARIABLE
    """The prompt's variable for documents."""

    _intake: Intake = PrivateAttr()

    @model_validator(mode="wrap")
    @classmethod
    def _made(cls, given: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        if isinstance(given, Mapping):
            refuse_unknown(given, cls.model_fields)
        try:
            return handler(given)
        except ValidationError as error:
            raise OptionError(sentence_of(error.errors()[0])) from None

    @field_validator("llm", mode="before")
    @classmethod
    def _check_llm(cls, given: object) -> DocumentCaching:
        return checked_llm(given)

    def model_post_init(self, context: Any) -> None:
        """Look once at what the prompt has in front of its documents."""
        super().model_post_init(context)
        self._intake = Intake(self.llm, self.prompt, document_variable=self.document_variable)


def checked_llm(llm: object) -> DocumentCaching:
    """The model itself, without what was bound to it. Raises OptionError for one of others."""
    while isinstance(llm, RunnableBinding):
        llm = llm.bound
    if not isinstance(llm, DocumentCaching):
        raise OptionError(f"llm is {kind_of(llm)}; expected a ChatPromptCache or a PromptCacheLLM")
    return llm


def checked_k(k: int | None) -> int | None:
    """How many documents may be returned. Raises OptionError for what is no positive number."""
    if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
        raise OptionError(f"k={k!r} is not a positive number")
    return k
