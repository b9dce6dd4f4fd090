"""The same prompt through a chain and through the PML that its template became."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2
import pytest
from hypothesis import HealthCheck, assume, given, reject, settings
from hypothesis import strategies as st
from langchain_core.documents import Document
from langchain_core.example_selectors import BaseExampleSelector
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import (
    AIMessagePromptTemplate,
    BasePromptTemplate,
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    FewShotPromptWithTemplates,
    HumanMessagePromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
    SystemMessagePromptTemplate,
)

from langchain_promptcache import ChatPromptCache, schema_from_prompt, translate
from langchain_promptcache.messages import to_engine
from promptcache import PromptCache, Reply
from promptcache.pml import Import, Prompt, Text, Turn, parse_prompt, parse_schema, resolve, write
from support.rag import DOCUMENTS, PROMPT, QUESTION, tiny_engine

ORDER = [DOCUMENTS[2], DOCUMENTS[0]]


def through_chain(engine: PromptCache, documents: Sequence[Document]) -> Reply:
    context = "\n\n".join(document.page_content for document in documents)
    messages = PROMPT.format_messages(context=context, input=QUESTION)
    return engine.generate_messages(to_engine(messages), max_new_tokens=8)


def prompt_text(reply: Reply) -> str:
    return "".join(span.text for span in reply.trace)


def test_a_collection_gives_the_prompt_of_the_chain() -> None:
    engine = tiny_engine(conversations=False)
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


def test_a_rendered_translation_gives_the_prompt_of_the_chain() -> None:
    engines = [tiny_engine() for _ in range(2)]
    for engine in engines:
        ChatPromptCache(engine=engine).cache_documents(DOCUMENTS, prompt=PROMPT, progress=False)
    rendered = translate(PROMPT).render({"context": ORDER, "input": QUESTION})
    reply = engines[0].generate(rendered.markup, max_new_tokens=8)
    expected = through_chain(engines[1], ORDER)
    assert prompt_text(reply) == prompt_text(expected)
    assert reply.usage == expected.usage
    assert reply.usage.encoded == 0
    assert reply.token_ids == expected.token_ids


# -- templates of every kind -----------------------------------------------------------------------

INVALID = (
    ValueError, LookupError, AttributeError, TypeError, SyntaxError, jinja2.TemplateError,
)  # fmt: skip
FORMATS = ["f-string", "mustache", "jinja2"]
HOLES = {
    "f-string": ["{context}", "{input}", "{tone}", "{called}", "{short}", "{input!r:>12}"],
    "mustache": [
        "{{{context}}}", "{{context}}", "{{input}}", "{{&input}}", "{{{tone}}}", "{{called}}",
        "{{short}}", "{{#input}}<{{{input}}}>{{/input}}", "{{^short}}none{{/short}}", "{{! no }}",
    ],
    "jinja2": [
        "{{ context }}", "{{ input }}", "{{ tone }}", "{{ called }}", "{{ short }}", "{{ 'say' }}",
        "{{ input | upper }}", "{% if input %}yes{{ input }}{% endif %}",
        "{% for c in short %}{{ c }},{% endfor %}", "{{- input -}}", "{# no #}",
        "{% set input = 'other' %}",
    ],
}  # fmt: skip
TEXT = st.text("ab<>&\"'{}[]%#!|\\-.: \n\r\t\x0c\x00é漢😀\u2028", max_size=9)
WORDS = st.sampled_from(["", " ", "\n\n", "Use this:\n", "Question: ", "x", "</user>", "&amp;"])
DOCS = st.lists(
    st.sampled_from(["The sea is blue.", "Cats <purr> & nap.", " edge \n", "a", "", "x\n\ny", "é"])
    | TEXT,
    max_size=4,
)
PARTIAL = {"tone": "brief & <b>", "called": lambda: "called for"}


def literal(text: str, template_format: str) -> str:
    return text.replace("{", "{{").replace("}", "}}") if template_format == "f-string" else text


@st.composite
def source(draw: st.DrawFn, template_format: str) -> str:
    text = (TEXT | WORDS).map(lambda text: literal(text, template_format))
    hole = st.sampled_from(HOLES[template_format])
    return "".join(draw(st.lists(text | hole, max_size=6)))


@st.composite
def text_template(draw: st.DrawFn, template_format: str) -> PromptTemplate:
    template = draw(source(template_format))
    partial = draw(st.sampled_from([{}, {"tone": "curt"}]))
    try:
        return PromptTemplate.from_template(
            template, template_format=template_format, partial_variables=partial
        )
    except INVALID:  # braces that happen to make no template
        reject()


EXAMPLES = [
    {"q": "1 + 1", "a": "2"}, {"q": "a <b>?", "a": "& so"}, {"q": "{x}", "a": " y "},
]  # fmt: skip


class ByLength(BaseExampleSelector):
    """Chooses more examples for a longer input, the last ones first."""

    def __init__(self, examples: list[dict[str, Any]]) -> None:
        self.examples = examples

    def add_example(self, example: dict[str, str]) -> None:
        self.examples.append(example)

    def select_examples(self, input_variables: dict[str, str]) -> list[dict[str, Any]]:
        return self.examples[::-1][: len(input_variables.get("input", "ab"))]


@st.composite
def examples(draw: st.DrawFn, example_prompt: Any) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(EXAMPLES), max_size=3))
    if draw(st.booleans()):
        return {"examples": chosen}
    return {"example_selector": ByLength(chosen)}


@st.composite
def few_shot(draw: st.DrawFn, template_format: str) -> BasePromptTemplate[Any]:
    example_prompt = PromptTemplate.from_template(draw(st.sampled_from(["{q}: {a}", "{q}{a}"])))
    given = draw(examples(example_prompt))
    given |= {"example_separator": draw(st.sampled_from(["\n\n", "", "\n", " - "]))}
    given |= {"example_prompt": example_prompt}
    try:
        if template_format != "mustache" and draw(st.booleans()):
            return FewShotPromptTemplate(
                prefix=draw(source(template_format)), suffix=draw(source(template_format)),
                template_format=template_format, **given,
            )  # fmt: skip
        prefix = draw(st.none() | text_template(template_format))
        suffix = draw(text_template(template_format))
        return FewShotPromptWithTemplates(
            prefix=prefix, suffix=suffix, template_format=template_format, input_variables=[],
            **given,
        )  # fmt: skip
    except INVALID:
        reject()


ROLES = {"system": "system", "human": "user", "ai": "assistant"}
KINDS = [SystemMessagePromptTemplate, HumanMessagePromptTemplate, AIMessagePromptTemplate]


@st.composite
def few_shot_chat(draw: st.DrawFn) -> FewShotChatMessagePromptTemplate:
    one = HumanMessagePromptTemplate.from_template("{q} = {a}")
    several = ChatPromptTemplate([("human", "{q}"), ("ai", "{a}")])
    example_prompt = draw(st.sampled_from([one, several]))
    given = draw(examples(example_prompt))
    return FewShotChatMessagePromptTemplate(
        example_prompt=example_prompt, input_variables=["input", "short"], **given
    )


@st.composite
def chat_template(draw: st.DrawFn, template_format: str, depth: int = 0) -> ChatPromptTemplate:
    text = text_template(template_format)
    kind = st.sampled_from(KINDS)
    message = st.one_of(
        st.builds(lambda kind, prompt: kind(prompt=prompt), kind, text),
        st.builds(lambda kind, prompt: kind(prompt=prompt), kind, text),
        st.builds(lambda kind, parts: kind(prompt=parts), kind, st.lists(text, max_size=3)),
        st.builds(lambda kind, prompt: kind(prompt=prompt), kind, few_shot(template_format)),
        st.builds(lambda kind, said: kind(said), st.sampled_from([SystemMessage, AIMessage]), TEXT),
        st.sampled_from([MessagesPlaceholder("history"), MessagesPlaceholder("no", optional=True)]),
        few_shot_chat(),
        *([] if depth else [chat_template(template_format, 1)]),
    )
    partial = draw(st.sampled_from([{}, PARTIAL, {"short": "fixed"}]))
    messages = draw(st.lists(message, min_size=1, max_size=5))
    return ChatPromptTemplate(messages).partial(**partial)


def any_template(template_format: str) -> st.SearchStrategy[BasePromptTemplate[Any]]:
    return st.one_of(
        text_template(template_format), few_shot(template_format), few_shot_chat(),
        chat_template(template_format), chat_template(template_format),
        chat_template(template_format),
    )  # fmt: skip


HISTORY: list[BaseMessage] = [HumanMessage("Is it?"), AIMessage(""), HumanMessage("Well?")]
VALUES = st.fixed_dictionaries(
    {
        "context": DOCS | DOCS.map(lambda texts: [Document(text) for text in texts]) | TEXT,
        "input": TEXT | st.sampled_from(["Why?", "The sea is blue."]),
        "tone": st.sampled_from(["long", ""]),
        "called": st.just("anew"),
        "short": TEXT,
        "history": st.sampled_from([[], HISTORY]),
    }
)


def as_langchain(value: Any) -> Any:
    """What a chain would put into a template for these documents."""
    if not isinstance(value, list) or any(isinstance(item, BaseMessage) for item in value):
        return value
    return "\n\n".join(item if isinstance(item, str) else item.page_content for item in value)


def given_to(prompt: BasePromptTemplate[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: values[name] for name in prompt.input_variables if name in values}


@pytest.mark.parametrize("template_format", FORMATS)
@settings(
    max_examples=200, deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)  # fmt: skip
@given(data=st.data())
def test_every_template_gives_the_same_messages_through_pml(
    template_format: str, data: st.DataObject
) -> None:
    prompt = data.draw(any_template(template_format))
    variables = given_to(prompt, data.draw(VALUES))
    assume(variables.keys() >= set(prompt.input_variables))
    rendered_by_langchain = {name: as_langchain(value) for name, value in variables.items()}
    try:
        messages = prompt.invoke(rendered_by_langchain).to_messages()
    except INVALID:  # braces in values that are applied twice
        reject()
    expected = [(ROLES[message.type], message.text) for message in messages]
    assume(any(text.strip() for _, text in expected))
    parameters = {"short": 9} if data.draw(st.booleans()) and has_short(prompt) else {}
    translation = translate(prompt, parameters=parameters)
    rendered = translation.render(variables)
    schema = parse_schema(write(translation.schema))
    said = resolve(schema, parse_prompt(rendered.markup), rendered.documents)
    assert [(message.role, message.text) for message in said] == expected
    assert rendered.messages == messages


def has_short(prompt: BasePromptTemplate[Any]) -> bool:
    from langchain_promptcache.templates.schema import template_turns
    from promptcache.templates import Variable

    parts = [part for turn in template_turns(prompt) for part in turn.parts]
    return any(isinstance(part, Variable) and part.name == "short" for part in parts)
