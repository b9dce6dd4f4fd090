"""Documents, as LlamaIndex hands them about, -> the texts that the engine keeps.

Knows where nodes and documents come from, and what a synthesizer sends of them; what an engine
does with their texts is the model's business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Protocol, TypedDict, runtime_checkable

from llama_index.core.llms.structured_llm import StructuredLLM
from llama_index.core.prompts import BasePromptTemplate
from llama_index.core.readers import SimpleDirectoryReader
from llama_index.core.readers.base import BaseReader, ReaderConfig
from llama_index.core.schema import (
    BaseNode,
    Document,
    MetadataMode,
    NodeWithScore,
    TransformComponent,
)

from promptcache import CachedDocuments, Expected
from promptcache.errors import OptionError, PromptError, kind_of
from promptcache.parameters import Engine
from promptcache.pml import Schema
from promptcache.prompts import FramedText

Piece = BaseNode | NodeWithScore | str
"""A document, a node of one, a node as retrievers return it, or a text."""
DocumentSource = BaseReader | ReaderConfig | Iterable[Piece]
"""A reader, which is read lazily where it can be, or documents, nodes or texts."""


class Front(TypedDict, total=False):
    """What documents stand behind, as the engine takes it; empty where that is not known."""

    schema: Schema
    preamble: FramedText


@runtime_checkable
class CachesDocuments(Protocol):
    """What a LlamaIndex model of ours offers: an engine, and a way of documents into it."""

    @property
    def engine(self) -> Engine:
        """The engine that serves the model's prompts."""

    def cache_documents(
        self,
        documents: DocumentSource,
        prompt: BasePromptTemplate | None = None,
        *,
        context: str | Expected | None = None,
        progress: bool = True,
        pin: bool = False,
    ) -> CachedDocuments:
        """Register documents; with a prompt, encode them after what it has in front of them.

        What is known is not encoded again. Raises TemplateError for a prompt in which it cannot
        be known what stands before the documents.
        """

    def front_of(self, prompt: BasePromptTemplate) -> Front:
        """What the model's prompts have in front of their documents. Raises as above."""


def texts_of(source: DocumentSource, splitter: TransformComponent | None = None) -> Iterable[str]:
    """The texts of the documents; a sequence when the source is one, so that it has a length.

    With a splitter, the texts of their parts, each document read and split when its turn comes.
    What has no text (an image) gives an empty one, which the engine skips. Raises PromptError,
    now or while iterating, for what is not a document, and OptionError for what is not a
    splitter.
    """
    documents = documents_of(source)
    if splitter is not None:
        return _parts_of(documents, checked_splitter(splitter))
    if isinstance(documents, Sequence):
        return [text_of(document) for document in documents]
    return map(text_of, documents)


def documents_of(source: DocumentSource) -> Iterable[Piece]:
    """What the source holds. Raises PromptError for what is no source of documents."""
    if isinstance(source, BaseReader):
        return _read(source)
    if isinstance(source, ReaderConfig):
        return _read(source.reader, *source.reader_args, **source.reader_kwargs)
    single = isinstance(source, str | Mapping | BaseNode | NodeWithScore)
    if single or not isinstance(source, Iterable):
        raise PromptError(
            f"documents is {kind_of(source)}; expected a reader, or a list of documents, "
            "nodes or texts"
        )
    return source


def text_of(piece: Piece) -> str:
    """What a synthesizer sends of a node: its text, with the metadata that is for models.

    Without the white space at its edges, which synthesizers strip when they join nodes, and some
    chat templates strip from the last one alone.
    """
    node = piece.node if isinstance(piece, NodeWithScore) else piece
    text = node.get_content(metadata_mode=MetadataMode.LLM) if isinstance(node, BaseNode) else node
    if not isinstance(text, str):
        raise PromptError(f"a document is {kind_of(text)}; expected a Document, a node or a text")
    return text.strip()


def checked_splitter(splitter: object) -> TransformComponent:
    """The splitter itself. Raises OptionError for what is none."""
    if not isinstance(splitter, TransformComponent):
        raise OptionError(
            f"splitter={splitter!r:.80} cannot split documents; expected a node parser of "
            "LlamaIndex's, such as SentenceSplitter(), or another transformation"
        )
    return splitter


def checked_llm(llm: object) -> CachesDocuments:
    """The model itself, not what structures its output. Raises OptionError for one of others."""
    while isinstance(llm, StructuredLLM):
        llm = llm.llm
    if isinstance(llm, type) or not isinstance(llm, CachesDocuments):
        raise OptionError(f"llm is {kind_of(llm)}; expected a PromptCacheLLM")
    return llm


def checked_prompt(prompt: object, llm: CachesDocuments) -> BasePromptTemplate | None:
    """The prompt itself, if the model's documents can stand in it, or None.

    Raises OptionError for what is no prompt template, and what the model raises for one in which
    it cannot be known what stands before the documents.
    """
    if prompt is not None and not isinstance(prompt, BasePromptTemplate):
        raise OptionError(
            f"prompt is {kind_of(prompt)}; expected a prompt template, for example "
            "PromptTemplate('Context:\\n{context_str}\\n\\nQuestion: {query_str}'), or None"
        )
    if prompt is not None:
        llm.front_of(prompt)
    return prompt


def _read(reader: BaseReader, *args: Any, **kwargs: Any) -> Iterable[Document]:
    if isinstance(reader, SimpleDirectoryReader) and not (args or kwargs):
        return chain.from_iterable(reader.iter_data())
    if type(reader).lazy_load_data is not BaseReader.lazy_load_data:
        return reader.lazy_load_data(*args, **kwargs)
    return reader.load_data(*args, **kwargs)


def _parts_of(documents: Iterable[Piece], splitter: TransformComponent) -> Iterator[str]:
    for document in documents:
        node = document.node if isinstance(document, NodeWithScore) else document
        whole = node if isinstance(node, BaseNode) else Document(text=text_of(node))
        yield from map(text_of, splitter([whole]))
