"""PromptModuleTransformer: documents pass through, and are modules afterwards."""

from __future__ import annotations

import pytest
from langchain_core.documents import Document

from langchain_promptcache import ChatPromptCache, PromptCacheLLM, PromptModuleTransformer
from promptcache.errors import OptionError, TemplateError
from support.rag import DOCUMENTS, PROMPT, tiny_engine

TEXTS = [document.page_content for document in DOCUMENTS]


@pytest.fixture(params=[ChatPromptCache, PromptCacheLLM])
def llm(request: pytest.FixtureRequest) -> ChatPromptCache | PromptCacheLLM:
    return request.param(engine=tiny_engine(), max_tokens=1)


def test_documents_come_out_as_they_went_in_and_are_registered(
    llm: ChatPromptCache | PromptCacheLLM,
) -> None:
    before = [document.model_copy(deep=True) for document in DOCUMENTS]
    assert PromptModuleTransformer(llm).transform_documents(DOCUMENTS) is DOCUMENTS
    assert before == DOCUMENTS
    assert llm.engine.store.keys() == []
    assert llm.engine.forget_documents(TEXTS) == len(TEXTS)


async def test_with_a_prompt_they_are_encoded_after_what_it_has_in_front_of_them(
    llm: ChatPromptCache | PromptCacheLLM,
) -> None:
    await PromptModuleTransformer(llm, PROMPT).atransform_documents(DOCUMENTS)
    assert llm.cache_documents(DOCUMENTS, PROMPT, progress=False).encoded == 0


def test_annotated_copies_say_the_modules_key_and_its_tokens(
    llm: ChatPromptCache | PromptCacheLLM,
) -> None:
    documents = [*DOCUMENTS, Document("  ")]
    out = PromptModuleTransformer(llm, annotate=True).transform_documents(documents)
    *about, blank = [document.metadata for document in out]
    assert blank == {}
    assert [a["prompt_module"] for a in about] == list(
        llm.cache_documents(DOCUMENTS, progress=False).keys
    )
    assert [a["prompt_module_tokens"] for a in about] == [llm.get_num_tokens(t) for t in TEXTS]
    assert about[1]["title"] == "Mira"
    assert DOCUMENTS[1].metadata == {"title": "Mira"}


def test_what_cannot_be_done_is_said_when_it_is_made() -> None:
    llm = ChatPromptCache(engine=tiny_engine())
    with pytest.raises(TemplateError, match="no variable 'docs'"):
        PromptModuleTransformer(llm, PROMPT, document_variable="docs")
    with pytest.raises(OptionError, match="llm is a str"):
        PromptModuleTransformer("pocket")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="takes no 'batch_size'"):
        PromptModuleTransformer(llm).transform_documents(DOCUMENTS, batch_size=3)
