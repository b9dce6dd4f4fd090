"""What a translation makes of each kind of template, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.example_selectors import LengthBasedExampleSelector
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotChatMessagePromptTemplate,
    FewShotPromptTemplate,
    PromptTemplate,
)

from langchain_promptcache import schema_from_prompt, translate
from promptcache.errors import PromptError, TemplateError
from promptcache.pml import Collection, Import, Module, Param, Role, Text, Turn

SUM = PromptTemplate.from_template("{q} = {a}")
SUMS = [{"q": "1 + 1", "a": "2"}, {"q": "2 + 2", "a": "4"}]
SHOT = ChatPromptTemplate([("human", "{q}"), ("ai", "{a}")])


def test_fixed_examples_of_a_text_are_modules() -> None:
    prompt = FewShotPromptTemplate(
        examples=SUMS, example_prompt=SUM, prefix="Add up.", suffix="Now: {q} ="
    )
    translation = translate(prompt)
    assert translation.schema.children == (
        Role("user", (
            Text("Add up.\n\n"), Module("example", (Text("1 + 1 = 2"),)),
            Text("\n\n"), Module("example-2", (Text("2 + 2 = 4"),)), Text("\n\nNow:"),
        )),
    )  # fmt: skip
    assert translation.render({"q": "3 + 3"}).prompt.children == (
        Turn("user", (Import("example"), Import("example-2"), Text(" 3 + 3 ="))),
    )  # fmt: skip


def test_fixed_examples_of_a_chat_are_modules_of_whole_messages() -> None:
    shots = FewShotChatMessagePromptTemplate(examples=SUMS, example_prompt=SHOT)
    translation = translate(ChatPromptTemplate([("system", "Add."), shots, ("human", "{q}")]))
    assert translation.schema.children == (
        Role("system", (Text("Add."),)),
        Module("example", (Role("user", (Text("1 + 1"),)), Role("assistant", (Text("2"),)))),
        Module("example-2", (Role("user", (Text("2 + 2"),)), Role("assistant", (Text("4"),)))),
    )
    assert translation.render({"q": "3"}).prompt.children == (
        Import("example"), Import("example-2"), Turn("user", (Text("3"),)),
    )  # fmt: skip


def test_examples_that_a_selector_chooses_are_documents_of_a_collection() -> None:
    selector = LengthBasedExampleSelector(examples=SUMS, example_prompt=SUM, max_length=9)
    prompt = FewShotPromptTemplate(
        example_selector=selector, example_prompt=SUM, prefix="Add these:", suffix="{q} ="
    )
    translation = translate(prompt)
    shared = (Text("Add these:"), Collection("examples"))
    assert translation.schema.children == (Role("user", shared),)
    rendered = translation.render({"q": "3"})
    assert rendered.messages == prompt.invoke({"q": "3"}).to_messages()
    assert list(rendered.documents.values()) == ["1 + 1 = 2"]


@pytest.mark.parametrize(
    ("template", "template_format"),
    [
        ("Use {context} for {{it}}: {q}", "f-string"),
        ("Use {{{context}}} for {it}: {{q}}", "mustache"),
        ("Use {{ context }} for {{ '{it}' }}: {{ q }}", "jinja2"),
    ],
)
def test_every_format_has_the_same_schema(template: str, template_format: Any) -> None:
    prompt = PromptTemplate.from_template(template, template_format=template_format)
    expected = (Role("user", (Text("Use "), Collection("context"), Text(" for {it}:"))),)
    assert schema_from_prompt(prompt).children == expected
    assert translate(prompt).schema.children == expected


def test_a_document_twice_is_imported_once_and_text_the_second_time() -> None:
    translation = translate(PromptTemplate.from_template("{context}\n{context}"))
    rendered = translation.render({"context": ["A.", "B.", "A."]})
    assert rendered.messages[0].text == "A.\n\nB.\n\nA.\nA.\n\nB.\n\nA."
    assert list(rendered.documents.values()) == ["A.", "B."]


def test_short_variables_become_parameters() -> None:
    prompt = ChatPromptTemplate([("system", "Be {tone}.\n{context}"), ("human", "{q}")])
    translation = translate(prompt, parameters={"tone": 4})
    module = Module("passage", (Text("Be "), Param("tone", 4), Text(".\n")))
    assert translation.schema.children == (Role("system", (module, Collection("context"))),)
    markup = translation.render({"tone": "<b>", "context": ["A."], "q": "?"}).markup
    assert '<arg name="tone">&lt;b&gt;</arg>' in markup


def test_text_between_an_import_and_a_variable_is_the_prompts_where_imports_follow() -> None:
    prompt = PromptTemplate.from_template("{context} then {q} and {notes}")
    translation = translate(prompt, document_variables=["context", "notes"])
    assert translation.schema.children == (
        Role("user", (Collection("context"), Collection("notes"))),
    )
    rendered = translation.render({"context": ["A."], "q": "why", "notes": ["B."]})
    assert rendered.messages[0].text == "A. then why and B."
    assert sorted(rendered.documents.values()) == ["A.", "B."]


def test_a_partial_variable_with_another_value_is_refused() -> None:
    prompt = ChatPromptTemplate([("system", "Be {tone}."), ("human", "{q}")]).partial(tone="brief")
    with pytest.raises(TemplateError, match="a value that the template was translated with has ch"):
        translate(prompt).render({"q": "?", "tone": "long"})


def test_what_pml_cannot_say_is_refused() -> None:
    translation = translate(ChatPromptTemplate([("placeholder", "{history}"), ("human", "{q}")]))
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}])
    with pytest.raises(PromptError, match="message 1 holds a block of type 'image_url'"):
        translation.render({"history": [image], "q": "?"})
    with pytest.raises(PromptError, match="'tool', which PML has not"):
        translation.render({"history": [ToolMessage("12", tool_call_id="1")], "q": "?"})
    with pytest.raises(PromptError, match="the prompt needs a value for 'q'"):
        translation.render({})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"parameters": {"tones": 3}}, "no plain variable 'tones' .* did you mean 'tone'"),
        (
            {"document_variables": ["docs"]},
            "no plain variable 'docs' for documents .variables: tone",
        ),
        ({"name": "no name"}, "cannot name a schema"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(Exception, match=said):
        translate(PromptTemplate.from_template("{tone}"), **options)
    with pytest.raises(TemplateError, match="int cannot become a schema; expected a Chat"):
        translate(7)  # type: ignore[arg-type]
