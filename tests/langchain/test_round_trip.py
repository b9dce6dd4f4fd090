"""The same prompt through a chain and through the PML that its template became."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_core.documents import Document

from langchain_promptcache import ChatPromptCache, schema_from_prompt
from langchain_promptcache.messages import to_engine
from promptcache import PromptCache, Reply
from promptcache.pml import Import, Prompt, Text, Turn, write
from support.rag import DOCUMENTS, PROMPT, QUESTION, tiny_engine

ORDER = [DOCUMENTS[2], DOCUMENTS[0]]


def through_chain(engine: PromptCache, documents: Sequence[Document]) -> Reply:
    context = "\n\n".join(document.page_content for document in documents)
    messages = PROMPT.format_messages(context=context, input=QUESTION)
    return engine.generate_messages(to_engine(messages), max_new_tokens=8)


def prompt_text(reply: Reply) -> str:
    return "".join(span.text for span in reply.trace)


def test_a_collection_gives_the_prompt_of_the_chain() -> None:
    engine = tiny_engine()
    llm = ChatPromptCache(engine=engine)
    keys = llm.cache_documents(DOCUMENTS, prompt=PROMPT, progress=False).keys
    schema = schema_from_prompt(PROMPT)
    docs = "".join(f'<doc key="{keys[DOCUMENTS.index(document)]}"/>' for document in ORDER)
    markup = f'<prompt schema="{schema.name}"><context>{docs}</context>{QUESTION}</prompt>'
    reply, expected = engine.generate(markup, max_new_tokens=8), through_chain(engine, ORDER)
    assert prompt_text(reply) == prompt_text(expected)
    assert reply.usage == expected.usage
    assert reply.token_ids == expected.token_ids


def test_documents_as_modules_give_the_prompt_of_the_chain() -> None:
    engine = tiny_engine()
    schema = engine.add_schema(schema_from_prompt(PROMPT, DOCUMENTS, name="qa"))
    said = Turn("system", (Import("document"), Text("\n\n"), Import("lighthouse")))
    markup = write(Prompt(schema.name, (said, Text(QUESTION))))
    ChatPromptCache(engine=engine).cache_documents(DOCUMENTS, progress=False)
    reply, expected = engine.generate(markup, max_new_tokens=8), through_chain(engine, ORDER)
    assert prompt_text(reply) == prompt_text(expected)
    assert reply.usage.encoded == expected.usage.encoded == 0
    assert reply.token_ids == expected.token_ids
