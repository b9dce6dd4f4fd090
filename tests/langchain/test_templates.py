"""Prompt templates as PML: what is translated, and what is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.document_loaders import BaseLoader
from langchain_core.documents import Document
from langchain_core.messages import SystemMessage
from langchain_core.prompts import (
    BasePromptTemplate,
    ChatMessagePromptTemplate,
    ChatPromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)
from langchain_core.prompts.image import ImagePromptTemplate

from langchain_promptcache import schema_from_prompt
from promptcache.errors import PromptError, TemplateError
from promptcache.pml import Collection, Module, Role, Schema, Text, parse_schema, write
from support.rag import DOCUMENTS, PROMPT

CONTEXT = Collection("context")


def children(prompt: BasePromptTemplate[Any], **options: Any) -> tuple[Any, ...]:
    schema = schema_from_prompt(prompt, **options)
    assert parse_schema(write(schema)) == schema
    return schema.children


def chat(*messages: Any, **options: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate(messages, **options)


def test_the_document_variable_becomes_a_collection_between_fixed_texts() -> None:
    assert children(PROMPT) == (
        Role("system", (
            Text("Answer from the context.\n\n<context>\n"), CONTEXT, Text("\n</context>"),
        )),
    )  # fmt: skip


def test_documents_that_are_given_become_modules_called_after_what_they_are() -> None:
    (system,) = children(PROMPT, documents=[*DOCUMENTS, Document("Again.", id="lighthouse")])
    modules = [node for node in system.children if isinstance(node, Module)]
    assert [module.name for module in modules] == [
        "lighthouse", "Mira", "document", "lighthouse-2",
    ]  # fmt: skip
    assert modules[1].children == (Text(DOCUMENTS[1].page_content),)


def test_documents_of_a_schema_may_be_texts_and_come_from_a_loader_or_a_generator() -> None:
    class Loader(BaseLoader):
        def lazy_load(self) -> Iterator[Document]:
            return iter(DOCUMENTS)

    texts = [document.page_content for document in DOCUMENTS]
    for source in (texts, Loader(), iter(DOCUMENTS), [DOCUMENTS[0], *texts[1:], " \n"]):
        (system,) = children(PROMPT, documents=source)
        modules = [node for node in system.children if isinstance(node, Module)]
        assert [module.children for module in modules] == [(Text(text),) for text in texts]
    assert [module.name for module in modules] == ["lighthouse", "document", "document-2"]


@pytest.mark.parametrize("documents", ["a text", DOCUMENTS[0], {"a": "text"}, 3, [3], [b"bytes"]])
def test_what_is_not_a_list_of_documents_is_refused(documents: Any) -> None:
    with pytest.raises(PromptError, match=r"expected a (loader|Document)"):
        schema_from_prompt(PROMPT, documents)


@pytest.mark.parametrize(
    ("source", "name"),
    [("notes/Museum guide.md", "Museum-guide"), ("1893.txt", "_1893"), ("user", "_user"),
     ("Ü.md", "document")],
)  # fmt: skip
def test_a_documents_name_is_made_one_that_pml_accepts(source: str, name: str) -> None:
    (system,) = children(PROMPT, documents=[Document("Text.", metadata={"source": source})])
    assert [node.name for node in system.children if isinstance(node, Module)] == [name]


def test_equal_prompts_have_schemas_of_one_name_and_others_of_another() -> None:
    other = chat(("system", "Be brief. {context}"))
    assert schema_from_prompt(PROMPT).name == schema_from_prompt(PROMPT.model_copy()).name
    assert schema_from_prompt(PROMPT).name != schema_from_prompt(other).name
    assert schema_from_prompt(PROMPT, name="qa").name == "qa"


def test_examples_before_the_documents_are_turns_of_their_own() -> None:
    prompt = chat(
        SystemMessage("Braces {stay} here."), ("human", "One?"), ("ai", "1."),
        ("human", "{context}\n\n{input}"),
    )  # fmt: skip
    assert children(prompt) == (
        Role("system", (Text("Braces {stay} here."),)),
        Role("user", (Text("One?"),)),
        Role("assistant", (Text("1."),)),
        Role("user", (CONTEXT,)),
    )


def test_text_ends_at_another_variable_and_leaves_it_the_sentence_that_it_is_part_of() -> None:
    prompt = chat(("human", "Be brief.\n\nQuestion: {input}\n\nContext:\n{context}\n\nAnswer:"))
    assert children(prompt) == (Role("user", (Text("Be brief."), CONTEXT)),)
    short = chat(("human", "Of every {input}\n{context}"))
    assert children(short) == (Role("user", (CONTEXT,)),)
    label = chat(("system", "Be kind."), ("human", "Question: {input}\n\nContext:\n{context}"))
    assert children(label) == (Role("system", (Text("Be kind."),)), Role("user", (CONTEXT,)))
    after = chat(("human", "Context:\n{context}\n\nQuestion: {input}\nAnswer:"))
    assert children(after) == (Role("user", (Text("Context:\n"), CONTEXT, Text("\n\nQuestion:"))),)


def test_white_space_alone_before_a_variable_is_no_text() -> None:
    assert children(chat(("human", "  {input} {context}"))) == (Role("user", (CONTEXT,)),)


def test_partial_variables_are_fixed_text_and_those_that_are_called_for_are_not() -> None:
    prompt = chat(("system", "{tone}, in {words} words.\n{context}"))
    assert children(prompt.partial(tone="Brief", words=9)) == (
        Role("system", (Text("Brief, in 9 words.\n"), CONTEXT)),
    )
    called = prompt.partial(tone="Brief", words=lambda: "9")
    assert children(called) == (Role("system", (CONTEXT,)),)


def test_doubled_braces_are_single_ones() -> None:
    assert children(chat(("system", "As {{json}}: {context}"))) == (
        Role("system", (Text("As {json}: "), CONTEXT)),
    )


def test_a_chat_prompt_inside_another_is_part_of_it() -> None:
    inner = chat(("system", "Be {tone}."), partial_variables={"tone": "brief"})
    assert children(chat(inner, ("human", "{context}"))) == (
        Role("system", (Text("Be brief."),)), Role("user", (CONTEXT,)),
    )  # fmt: skip


def test_a_text_template_is_the_users_message() -> None:
    prompt = PromptTemplate.from_template("{context}\n\nQuestion: {input}")
    assert children(prompt) == (Role("user", (CONTEXT, Text("\n\nQuestion:"))),)


def test_a_message_may_be_made_of_several_texts() -> None:
    prompt = chat(("human", [{"type": "text", "text": "Use this:\n"}, "{context}"]))
    assert children(prompt) == (Role("user", (Text("Use this:\n"), CONTEXT)),)


def test_roles_may_have_langchains_names() -> None:
    prompt = chat(ChatMessagePromptTemplate.from_template("{context}", role="human"))
    assert children(prompt) == (Role("user", (CONTEXT,)),)


def test_messages_between_are_each_prompts_own() -> None:
    prompt = chat(
        ("system", "Be brief."), MessagesPlaceholder("history"), ("human", "Use this: {context}")
    )
    assert children(prompt) == (Role("system", (Text("Be brief."),)), Role("user", (CONTEXT,)))


def test_a_second_place_for_the_documents_is_an_ordinary_variable() -> None:
    prompt = chat(("system", "{context}, and again {context}, and on"))
    assert children(prompt) == (Role("system", (CONTEXT, Text(", and again"))),)


def test_the_document_variable_may_have_any_name() -> None:
    prompt = chat(("human", "Sum up: {text}"))
    assert children(prompt, document_variable="text") == (
        Role("user", (Text("Sum up: "), Collection("_text"))),
    )


def test_a_schema_is_written_as_pml() -> None:
    assert write(schema_from_prompt(PROMPT, name="qa")).startswith('<schema name="qa">')


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (chat(("system", "{docs}"), ("human", "{input}")),
         "the prompt has no variable 'context' .*variables: docs, input"),
        (chat(("system", "Be {tone}."), ("human", "{context}")),
         r"the variable 'tone' stands in a message before .* prompt\.partial"),
        (chat(("human", "{context!r}")), "not looked into: the variable 'context', formatted"),
        (chat(("human", "{{#a}}{{context}}{{/a}}"), template_format="mustache"),
         "not looked into: the mustache section 'a'"),
        (chat(("human", "{{ context | upper }}"), template_format="jinja2"),
         r"not looked into: a jinja2 expression \(filter\)"),
        (chat(("human", "{% if a %}{{ context }}{% endif %}"), template_format="jinja2"),
         r"not looked into: a jinja2 statement \(if\)"),
        (chat(ChatMessagePromptTemplate.from_template("{context}", role="weather")),
         "'weather' is no role of PML"),
        (chat(("human", [{"type": "image_url", "image_url": "{context}"}])),
         "not looked into: ImagePromptTemplate"),
        (FewShotPromptTemplate(
            examples=[{"b": "B"}], example_prompt=PromptTemplate.from_template("{a}"), suffix="s"),
         "example 1 has no value for 'a'"),
        (ImagePromptTemplate(template={"url": "a"}),
         "ImagePromptTemplate cannot become a schema"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused(prompt: BasePromptTemplate[Any], said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        schema_from_prompt(prompt)


def test_schemas_are_values() -> None:
    assert isinstance(schema_from_prompt(PROMPT), Schema)


TEXTS = st.text("ab {}\n", max_size=6).map(lambda text: text.replace("{", "{{").replace("}", "}}"))
HOLES = st.sampled_from(["{context}", "{input}", "{tone}", "{fixed}"])
MESSAGES = st.tuples(
    st.sampled_from(["system", "human", "ai"]),
    st.lists(TEXTS | HOLES, max_size=5).map("".join),
)


ROLES = {"system": "system", "human": "user", "ai": "assistant"}


def beginning(schema: Schema) -> list[tuple[str, str]]:
    """Roles and fixed texts up to the documents."""
    turns = []
    for role in schema.children:
        assert isinstance(role, Role)
        texts = takewhile(lambda node: isinstance(node, Text), role.children)
        turns.append((role.role, "".join(text.text for text in texts)))
        if CONTEXT in role.children:
            break
    return turns


@given(
    messages=st.lists(MESSAGES, min_size=1, max_size=4),
    said=st.text("xy \n", min_size=1, max_size=3),
)
def test_every_prompt_of_a_template_begins_with_what_its_schema_says(
    messages: list[tuple[str, str]], said: str
) -> None:
    prompt = chat(*messages, partial_variables={"fixed": " partial "})
    try:
        schema = schema_from_prompt(prompt)
    except TemplateError:
        return
    values = dict.fromkeys(("context", "input", "tone"), said)
    messages_said = prompt.format_messages(**values)
    rendered = [(ROLES[m.type], m.text) for m in messages_said if m.text]
    *whole, (role, text) = beginning(schema)
    assert rendered[: len(whole)] == whole
    assert rendered[len(whole)][0] == role
    assert rendered[len(whole)][1].startswith(text)
