"""PromptCacheEncoder: nodes that pass through an ingestion pipeline are encoded for a model.

A pipeline skips its transformations in two cases: nodes that its cache or its docstore knows do
not pass, and with `num_workers` they pass in processes that have no model. Neither costs more
than time: a node that was not encoded here is encoded when a first prompt holds it, if it is
registered, which PromptCachePostprocessor and observe_retrievers do when it is retrieved.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any

from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.prompts import BasePromptTemplate, SelectorPromptTemplate
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.schema import BaseNode, TransformComponent
from pydantic import Field, SkipValidation

from llama_index_promptcache.documents import CachesDocuments, checked_llm, checked_prompt

log = logging.getLogger("promptcache")


class PromptCacheEncoder(TransformComponent):
    """Registers and encodes the nodes that pass through it, and gives them back.

        pipeline = IngestionPipeline(transformations=[SentenceSplitter(), PromptCacheEncoder(llm)])
        nodes = pipeline.run(documents=documents)

    Nodes are encoded after what `prompt` has in front of its documents: by default the prompt
    that LlamaIndex's query engines ask questions with. With `prompt=None` they are registered,
    and encoded when a first request shows what stands before them. Put it last, behind all that
    changes texts or metadata.

    The pipeline's cache takes two encoders for the same when they have the same model, tokenizer
    and prompt. In a worker process (`num_workers`) there is no model: nodes pass, and a line is
    logged.

    Raises OptionError for a model that is none of ours or what is no prompt, and TemplateError
    for a prompt in which it cannot be known what stands before the documents.
    """

    llm: Annotated[CachesDocuments, SkipValidation] = Field(exclude=True, repr=False)
    """Whose prompts will hold the nodes."""
    prompt: Annotated[BasePromptTemplate | None, SkipValidation] = Field(exclude=True, repr=False)
    """The template that nodes are encoded for, if any."""
    show_progress: bool = Field(default=False, exclude=True)
    """Whether a bar shows how many nodes are done."""

    def __init__(
        self,
        llm: CachesDocuments,
        prompt: BasePromptTemplate | None = DEFAULT_TEXT_QA_PROMPT_SEL,
        *,
        show_progress: bool = False,
    ) -> None:
        model = checked_llm(llm)
        fields: dict[str, Any] = {"llm": model, "prompt": checked_prompt(prompt, model)}
        fields["show_progress"] = show_progress
        super().__init__(**fields)

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex knows this class by."""
        return "PromptCacheEncoder"

    def __call__(self, nodes: Sequence[BaseNode], **_: Any) -> Sequence[BaseNode]:
        """Register the nodes, encode them if there is a prompt, and give them back.

        Other arguments are a pipeline's, meant for any of its transformations.
        """
        self.llm.cache_documents(nodes, self.prompt, progress=self.show_progress)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """The same in a thread, so that the event loop is free meanwhile."""
        return await asyncio.to_thread(self, nodes, **kwargs)

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What a pipeline's cache knows this encoder by: hashes of its model and its prompt."""
        prompt = None if self.prompt is None else _digest(self.prompt, self.llm)
        return {
            "class_name": self.class_name(),
            "model": self.llm.engine.fingerprint,
            "prompt": prompt,
        }

    def __reduce__(self) -> tuple[type[TransformComponent], tuple[()]]:
        """Another process gets what passes nodes on: a model is too large to be sent about."""
        return _Elsewhere, ()


class _Elsewhere(TransformComponent):
    """An encoder in a process that has no model. Its own name keeps it apart in caches."""

    @classmethod
    def class_name(cls) -> str:
        return "PromptCacheEncoderElsewhere"

    def __call__(self, nodes: Sequence[BaseNode], **_: Any) -> Sequence[BaseNode]:
        log.warning(
            "%d nodes were not encoded: a worker process of a pipeline has no model. They are "
            "encoded when a first prompt holds them, or now with num_workers=None",
            len(nodes),
        )
        return nodes


def _digest(prompt: BasePromptTemplate, llm: object) -> str:
    """A hash of what a template says, the same in every process."""
    if isinstance(prompt, SelectorPromptTemplate):
        prompt = prompt.select(llm if isinstance(llm, BaseLLM) else None)
    said = (
        type(prompt).__name__,
        prompt.get_template(),
        sorted(prompt.kwargs.items()),
        sorted((prompt.template_var_mappings or {}).items()),
        sorted((name, _name_of(f)) for name, f in (prompt.function_mappings or {}).items()),
    )
    return blake2b(repr(said).encode(errors="surrogatepass"), digest_size=16).hexdigest()


def _name_of(function: object) -> str:
    named = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}.{named}"
