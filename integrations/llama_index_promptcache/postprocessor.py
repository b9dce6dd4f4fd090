"""PromptCachePostprocessor: what a query engine retrieved, ready to be reused."""

from __future__ import annotations

from typing import Annotated, Any

from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.schema import NodeWithScore, QueryBundle
from pydantic import Field, SkipValidation

from llama_index_promptcache.documents import CachesDocuments, checked_llm, checked_prompt
from promptcache.parameters import refuse_unknown


class PromptCachePostprocessor(BaseNodePostprocessor):
    """Registers the nodes that pass through it with a model's engine, and gives them back.

        index.as_query_engine(llm=llm, node_postprocessors=[PromptCachePostprocessor(llm)])

    With the query engine's `prompt` they are encoded while they are retrieved, after what that
    prompt has in front of its documents, and only those that the engine does not have; without,
    they are registered, and encoded when a first request shows what stands before them. Put it
    last, behind all that changes nodes or leaves some out.

    Raises OptionError for a model that is none of ours, for what is no prompt and for other names,
    and TemplateError for a prompt in which it cannot be known what stands before the documents.
    """

    llm: Annotated[CachesDocuments, SkipValidation] = Field(exclude=True, repr=False)
    """Whose prompts will hold the nodes."""
    prompt: Annotated[BasePromptTemplate | None, SkipValidation] = Field(exclude=True, repr=False)
    """The template that nodes are encoded for, if any."""

    def __init__(
        self,
        llm: CachesDocuments | None = None,
        prompt: BasePromptTemplate | None = None,
        **others: Any,
    ) -> None:
        refuse_unknown(others, ("llm", "prompt"))
        model = checked_llm(llm)
        fields: dict[str, Any] = {"llm": model, "prompt": checked_prompt(prompt, model)}
        super().__init__(**fields)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex knows this class by."""
        return "PromptCachePostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        self.llm.cache_documents(nodes, self.prompt, progress=False)
        return nodes
