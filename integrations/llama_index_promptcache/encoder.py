"""PromptCacheEncoder: nodes that pass through an ingestion pipeline are encoded for a model.

A pipeline skips its transformations in two cases: nodes that its cache or its docstore knows do
not pass, and with `num_workers` they pass in processes that have no model. Either may leave a model
without nodes that it never saw, after a restart for one. Such a node is a node again when something
registers it: `cache_documents`, or PromptCachePostprocessor and observe_retrievers when it is
retrieved. It is encoded then when a first prompt holds it; until then its text is any other text.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated, Any

from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.schema import BaseNode, Document, TransformComponent
from pydantic import Field, SkipValidation

from llama_index_promptcache.documents import (
    CachesDocuments,
    Front,
    checked_llm,
    checked_prompt,
    text_of,
)
from promptcache.parameters import refuse_unknown
from promptcache.pml import write

log = logging.getLogger("promptcache")


class PromptCacheEncoder(TransformComponent):
    """Registers and encodes the nodes that pass through it, and gives them back.

        pipeline = IngestionPipeline(transformations=[SentenceSplitter(), PromptCacheEncoder(llm)])
        nodes = pipeline.run(documents=documents)

    Nodes are encoded after what `prompt` has in front of its documents: by default the prompt
    that LlamaIndex's query engines ask questions with. With `prompt=None` they are registered,
    and encoded when a first request shows what stands before them. Put it last, behind all that
    changes texts or metadata.

    Nodes that a pipeline's cache or docstore knows do not pass, after a restart either, when the
    model does not know them: `cache_documents` takes what the pipeline gave before.

    The pipeline's cache takes two encoders for the same when nodes are encoded by the same model
    after the same text, whatever makes it: the prompt, a system prompt, the chat template. In a
    worker process (`num_workers`) there is no model: nodes pass, and a line is
    logged.

    Raises OptionError for a model that is none of ours, for what is no prompt and for other names,
    and TemplateError for a prompt in which it cannot be known what stands before the documents.
    """

    llm: Annotated[CachesDocuments, SkipValidation] = Field(exclude=True, repr=False)
    """Whose prompts will hold the nodes."""
    prompt: Annotated[BasePromptTemplate | None, SkipValidation] = Field(exclude=True, repr=False)
    """The template that nodes are encoded for, if any."""
    show_progress: bool = Field(default=False, exclude=True)
    """Whether a bar shows how many nodes are done."""

    def __init__(
        self,
        llm: CachesDocuments | None = None,
        prompt: BasePromptTemplate | None = DEFAULT_TEXT_QA_PROMPT_SEL,
        *,
        show_progress: bool = False,
        **others: Any,
    ) -> None:
        refuse_unknown(others, ("llm", "prompt", "show_progress"))
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
        self._look_at(nodes)
        self.llm.cache_documents(nodes, self.prompt, progress=self.show_progress)
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """The same in a thread, so that the event loop is free meanwhile."""
        return await asyncio.to_thread(self, nodes, **kwargs)

    def _look_at(self, nodes: Sequence[BaseNode]) -> None:
        """Say so where a splitter has yet to come: a transformation cannot see what follows it, but
        no prompt will hold such documents.
        """
        window = self.llm.engine.window
        if window is None:
            return
        texts = (text_of(node) for node in nodes if isinstance(node, Document))
        # Hardly any text has more tokens than characters: what is short need not be counted.
        long = [t for t in texts if len(t) > window and self.llm.engine.count_tokens(t) > window]
        if long:
            log.warning(
                "PromptCacheEncoder was given whole documents that are longer than the model's "
                "window of %d tokens, which no prompt will hold: put it behind the splitter, as "
                "the last transformation: %.60r",
                window,
                long[0],
            )

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """What a pipeline's cache knows this encoder by: hashes of its model, and of what that
        model's prompts have in front of the nodes.
        """
        return {
            "class_name": self.class_name(),
            "model": self.llm.engine.fingerprint,
            "front": None if self.prompt is None else _digest(self.llm.front_of(self.prompt)),
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
            "%d nodes were neither encoded nor registered: a worker process of a pipeline has no "
            "model. Leave num_workers out, give the pipeline's nodes to llm.cache_documents, or "
            "let PromptCachePostprocessor or observe_retrievers register them",
            len(nodes),
        )
        return nodes


def _digest(front: Front) -> str:
    """A hash of what nodes are encoded after, the same in every process."""
    said = write(front["schema"]) if "schema" in front else repr(front["preamble"])
    return blake2b(said.encode(errors="surrogatepass"), digest_size=16).hexdigest()
