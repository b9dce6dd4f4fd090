"""Documents from readers, lists, generators and nodes, as synthesizers send them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.node_parser import MarkdownNodeParser, SentenceSplitter
from llama_index.core.prompts.default_prompt_selectors import DEFAULT_TEXT_QA_PROMPT_SEL
from llama_index.core.readers import SimpleDirectoryReader, StringIterableReader
from llama_index.core.readers.base import BasePydanticReader, BaseReader, ReaderConfig
from llama_index.core.response_synthesizers import Accumulate
from llama_index.core.schema import (
    Document,
    ImageNode,
    MediaResource,
    Node,
    NodeWithScore,
    TextNode,
)

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.documents import checked_llm, checked_prompt, text_of, texts_of
from promptcache.errors import OptionError, PromptError
from support.llama import NODES, QUESTION, TEXTS, scored, tiny_llm

HIDING = TextNode(
    text=" Words. ",
    metadata={"file": "a.md", "secret": "x", "kind": "note"},
    excluded_llm_metadata_keys=["secret"],
    excluded_embed_metadata_keys=["file"],
    text_template="<{metadata_str}> {content}",
    metadata_template="{key}={value}",
    metadata_separator=", ",
)


@pytest.mark.parametrize("node", [*NODES, HIDING, Document(text="A.\n", metadata={"by": "B"})])
def test_the_text_of_a_node_is_what_a_synthesizer_sends_of_it(node: TextNode) -> None:
    llm = tiny_llm()
    with llm.engine.recording() as replies:
        Accumulate(llm=llm).synthesize(QUESTION, scored([node]))
    [reply] = replies
    sent = "".join(span.text for span in reply.trace.spans)
    before, text, after = sent.partition(text_of(node))
    assert text
    assert (before[-1], after[0]) == ("\n", "\n")


def test_nodes_scored_nodes_documents_and_texts_may_be_mixed_and_come_from_a_generator() -> None:
    mixed = [NODES[0], NodeWithScore(node=NODES[1]), f" {TEXTS[2]}\n", Document(text="More.")]
    assert texts_of(mixed) == [*TEXTS, "More."]
    drawn = texts_of(piece for piece in mixed)
    assert not isinstance(drawn, Sequence)
    assert list(drawn) == [*TEXTS, "More."]


def test_nodes_may_be_encoded_as_expected_states() -> None:
    llm = tiny_llm()
    prompt = DEFAULT_TEXT_QA_PROMPT_SEL.select(llm)
    llm.cache_documents(NODES, prompt=prompt, context="expected", progress=False)
    with llm.engine.recording() as replies:
        Accumulate(llm=llm).synthesize(QUESTION, scored(NODES))
    spans = [span for reply in replies for span in reply.trace if span.text in TEXTS]
    assert {span.context for span in spans} == {"expected"}
    assert sum(reply.usage.encoded for reply in replies) == 0


def test_what_has_no_text_is_skipped() -> None:
    images = [
        ImageNode(image_url="http://localhost/a.png"),
        Node(image_resource=MediaResource(url="http://localhost/c.png")),
        TextNode(text=" \n"),
    ]
    report = tiny_llm().cache_documents([NODES[0], *images], progress=False)
    assert (report.added, report.skipped) == (1, 3)


class Lazy(BaseReader):
    def __init__(self) -> None:
        self.read = 0

    def lazy_load_data(self, *words: str, **_: Any) -> Iterator[Document]:
        for word in words or TEXTS:
            self.read += 1
            yield Document(text=word)


class Configured(BasePydanticReader):
    def load_data(self, *words: str, mark: str = "") -> list[Document]:
        return [Document(text=word + mark) for word in words]


def test_a_lazy_reader_is_read_as_its_documents_are_needed() -> None:
    reader = Lazy()
    texts = iter(texts_of(reader))
    assert reader.read == 0
    assert next(texts) == TEXTS[0]
    assert reader.read == 1
    assert list(texts) == TEXTS[1:]


def test_a_reader_that_needs_arguments_comes_with_them() -> None:
    config = ReaderConfig(reader=Configured(), reader_args=["a", "b"], reader_kwargs={"mark": "!"})
    assert list(texts_of(config)) == ["a!", "b!"]
    with pytest.raises(TypeError, match="texts"):
        texts_of(StringIterableReader())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, text in enumerate(TEXTS):
        (tmp_path / f"{number}.txt").write_text(text)
    return tmp_path


def test_a_directory_is_read_one_file_at_a_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    load = SimpleDirectoryReader.load_file

    def counted(input_file: Path, **kwargs: Any) -> list[Document]:
        read.append(input_file.name)
        return load(input_file=input_file, **kwargs)

    monkeypatch.setattr(SimpleDirectoryReader, "load_file", staticmethod(counted))
    texts = iter(texts_of(SimpleDirectoryReader(folder)))
    assert next(texts).endswith(TEXTS[0])
    assert read == ["0.txt"]
    assert [text.endswith(end) for text, end in zip(texts, TEXTS[1:], strict=True)] == [True, True]


def test_a_directory_gives_the_texts_that_its_loaded_documents_have(folder: Path) -> None:
    loaded = SimpleDirectoryReader(folder).load_data()
    assert list(texts_of(SimpleDirectoryReader(folder))) == [text_of(d) for d in loaded]
    assert "file_path: " in text_of(loaded[0])
    assert "creation_date" not in text_of(loaded[0])


def test_each_document_is_split_when_its_turn_comes() -> None:
    reader = Lazy()
    splitter = SentenceSplitter(chunk_size=8, chunk_overlap=0)
    parts = iter(texts_of(reader, splitter))
    assert next(parts) in TEXTS[0]
    assert reader.read == 1
    nodes = splitter.get_nodes_from_documents([Document(text=text) for text in TEXTS])
    assert len(nodes) > len(TEXTS)
    assert list(texts_of(Lazy(), splitter)) == [text_of(node) for node in nodes]


def test_parts_have_the_metadata_of_their_document_and_texts_can_be_split_too() -> None:
    document = Document(text="# One\n\nA.\n\n# Two\n\nB.", metadata={"by": "C"})
    with_headers = MarkdownNodeParser(include_metadata=True)
    first, second = texts_of([NodeWithScore(node=document)], with_headers)
    assert first.startswith("by: C\n")
    assert (first[-2:], second[-2:]) == ("A.", "B.")
    assert len(list(texts_of([document.text], with_headers))) == 2


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("text", "a str"),
        (NODES[0], "a TextNode"),
        (NodeWithScore(node=NODES[0]), "a NodeWithScore"),
        ({"a": "b"}, "a dict"),
        (3, "an int"),
    ],
)
def test_what_is_no_source_of_documents_is_refused(source: Any, name: str) -> None:
    with pytest.raises(PromptError, match=f"documents is {name}; expected a reader, or a list"):
        texts_of(source)


def test_what_is_no_document_or_splitter_or_model_or_prompt_is_refused() -> None:
    with pytest.raises(PromptError, match="a document is an int; expected a Document, a node or"):
        texts_of([NODES[0], 3])  # type: ignore[list-item]
    with pytest.raises(OptionError, match="splitter='sentence' cannot split documents"):
        texts_of(NODES, "sentence")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="cannot split documents"):
        texts_of(NODES, SentenceSplitter)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="llm is a str; expected a PromptCacheLLM"):
        checked_llm("pocket")
    with pytest.raises(OptionError, match="llm is the class PromptCacheLLM; expected"):
        checked_llm(PromptCacheLLM)
    with pytest.raises(OptionError, match="prompt is a str; expected a prompt template"):
        checked_prompt("{context_str}", tiny_llm())


def test_a_model_is_found_behind_what_structures_its_output() -> None:
    llm = tiny_llm()
    assert checked_llm(llm.as_structured_llm(TextNode)) is llm


@pytest.mark.parametrize("forgotten", [NODES, scored(NODES), TEXTS, (node for node in NODES)])
def test_documents_are_forgotten_as_they_were_given(forgotten: Any) -> None:
    llm = tiny_llm()
    llm.cache_documents(NODES, DEFAULT_TEXT_QA_PROMPT_SEL, progress=False)
    assert llm.forget_documents(forgotten) == len(NODES)
    assert llm.forget_documents(NODES) == 0
    again = llm.cache_documents(NODES, DEFAULT_TEXT_QA_PROMPT_SEL, progress=False)
    assert again.encoded == len(NODES)
    with pytest.raises(PromptError, match="documents is a str; expected a reader"):
        llm.forget_documents("text")


def test_an_engine_encodes_all_nodes_in_the_context_that_is_set_and_written() -> None:
    llm = PromptCacheLLM(model_name="pocket", context="expected", max_new_tokens=1)
    llm.cache_documents(NODES, prompt=DEFAULT_TEXT_QA_PROMPT_SEL.select(llm), progress=False)
    assert {str(run.context.kind) for run in llm.engine._library.held()} == {"expected"}
    assert PromptCacheLLM.from_dict(llm.to_dict()).engine.fingerprint == llm.engine.fingerprint
    with pytest.raises(OptionError, match="'preamble', 'expected', 'bare'"):
        PromptCacheLLM(model_name="pocket", context="none")
