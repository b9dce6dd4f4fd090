"""Documents from loaders, lists and generators."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from langchain_classic.chains.combine_documents import create_stuff_documents_chain
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.prompts import ChatPromptTemplate

from core.text.short_templates import GEMMA_3, LLAMA_2, LLAMA_3, MISTRAL, QWEN_3
from langchain_promptcache import ChatPromptCache, PromptCacheLLM
from langchain_promptcache.caching import DocumentCaching
from promptcache.errors import OptionError, PromptError, TemplateError
from support.rag import DOCUMENTS, PROMPT, Ear, reused, tiny_engine
from support.words import TEMPLATE


class Loader(BaseLoader):
    def __init__(self) -> None:
        self.read = 0

    def lazy_load(self) -> Iterator[Document]:
        for document in DOCUMENTS:
            self.read += 1
            yield document


@pytest.fixture
def llm() -> ChatPromptCache:
    return ChatPromptCache(engine=tiny_engine(), max_tokens=1)


def test_a_loader_is_read_once(llm: ChatPromptCache) -> None:
    loader = Loader()
    assert llm.cache_documents(loader, prompt=PROMPT, progress=False).encoded == len(DOCUMENTS)
    assert loader.read == len(DOCUMENTS)


def test_documents_and_texts_may_be_mixed_and_come_from_a_generator(llm: ChatPromptCache) -> None:
    mixed = (d if i else d.page_content for i, d in enumerate(DOCUMENTS))
    assert llm.cache_documents(mixed, progress=False).added == len(DOCUMENTS)


def test_a_document_is_known_by_its_text_without_the_white_space_around_it(
    llm: ChatPromptCache,
) -> None:
    padded = [Document(f"\n{d.page_content}\n\n") for d in DOCUMENTS]
    llm.cache_documents(DOCUMENTS, progress=False)
    assert llm.cache_documents([*padded, Document(" \n")], progress=False).known == len(DOCUMENTS)


@pytest.mark.parametrize("template", [TEMPLATE, LLAMA_3, LLAMA_2, GEMMA_3, QWEN_3, MISTRAL])
@pytest.mark.parametrize("before", ["{input}\n\n{context}", "{context}\n\n{input}"])
def test_documents_with_white_space_around_them_are_reused_expected_and_forgotten_as_they_are(
    before: str, template: str
) -> None:
    engine = tiny_engine(template)
    llm = ChatPromptCache(engine=engine, max_tokens=1)
    prompt = ChatPromptTemplate.from_template("Use this.\n\n" + before)
    padded = [Document(f" {document.page_content}\n") for document in DOCUMENTS]
    texts = [document.page_content for document in padded]
    llm.cache_documents(padded, prompt=prompt, progress=False)
    chain = create_stuff_documents_chain(llm.bind(expected=texts), prompt)
    for documents in (padded, padded[::-1]):
        ear = Ear()
        chain.invoke({"context": documents, "input": "Why?"}, config={"callbacks": [ear]})
        assert reused(ear.message, padded, engine) == 1
        assert ear.message.response_metadata["notes"] == []
    assert engine.forget_documents(texts) == len(texts)
    assert engine.forget_documents(texts) == 0


def test_the_bar_shows_how_many_documents_are_done(
    llm: ChatPromptCache, capsys: pytest.CaptureFixture[str]
) -> None:
    llm.cache_documents(DOCUMENTS, prompt=PROMPT)
    assert "3/3" in capsys.readouterr().err


def test_caching_for_a_prompt_twice_encodes_once(llm: ChatPromptCache) -> None:
    llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False)
    again = llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False)
    assert (again.known, again.encoded) == (len(DOCUMENTS), 0)


def test_documents_may_be_encoded_as_expected_states(llm: ChatPromptCache) -> None:
    llm.cache_documents(DOCUMENTS, prompt=PROMPT, context="expected", progress=False)
    chain = create_stuff_documents_chain(llm, PROMPT)
    with llm.engine.recording() as replies:
        chain.invoke({"context": DOCUMENTS[::-1], "input": "Why?"})
    texts = {document.page_content for document in DOCUMENTS}
    assert {span.context for span in replies[-1].trace if span.text in texts} == {"expected"}
    assert replies[-1].usage.encoded == 0


def test_a_prompt_without_the_variable_caches_nothing(llm: ChatPromptCache) -> None:
    with pytest.raises(TemplateError, match="no variable 'docs'"):
        llm.cache_documents(DOCUMENTS, prompt=PROMPT, document_variable="docs", progress=False)
    ear = Ear()
    text = DOCUMENTS[0].page_content
    llm.invoke(PROMPT.invoke({"context": text, "input": "?"}), config={"callbacks": [ear]})
    assert ear.message.usage_metadata["input_token_details"]["cache_creation"] == 0


def test_documents_are_forgotten_as_they_were_given(llm: ChatPromptCache) -> None:
    padded = [Document(f" {document.page_content}\n") for document in DOCUMENTS]
    llm.cache_documents(padded, prompt=PROMPT, progress=False)
    assert llm.forget_documents(iter(padded)) == len(DOCUMENTS)
    assert llm.forget_documents(DOCUMENTS) == 0
    assert llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False).encoded == len(DOCUMENTS)
    with pytest.raises(PromptError, match="documents is a str; expected a loader"):
        llm.forget_documents("text")


@pytest.mark.parametrize("kind", [ChatPromptCache, PromptCacheLLM])
@pytest.mark.parametrize(("prompt", "said"), [("Use {context}", "a str"), (3, "an int")])
def test_a_prompt_that_is_no_template_is_refused_in_a_sentence(
    kind: type[DocumentCaching], prompt: Any, said: str
) -> None:
    with pytest.raises(OptionError, match=f"prompt is {said}; expected a prompt template"):
        kind(engine=tiny_engine()).cache_documents(DOCUMENTS, prompt=prompt, progress=False)


def test_an_engine_encodes_all_documents_in_the_context_that_is_set() -> None:
    llm = ChatPromptCache(model="pocket", context="expected", max_tokens=1)
    llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False)
    assert {str(run.context.kind) for run in llm.engine._library.held()} == {"expected"}
    with pytest.raises(OptionError, match="'preamble', 'expected', 'bare'"):
        ChatPromptCache(model="pocket", context="none")
