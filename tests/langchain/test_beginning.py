"""What plain prompts have in front of their documents, for templates of every kind."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.example_selectors import LengthBasedExampleSelector
from langchain_core.prompts import (
    ChatPromptTemplate,
    FewShotPromptTemplate,
    MessagesPlaceholder,
    PromptTemplate,
)

from langchain_promptcache.beginning import text_before_documents
from promptcache.errors import TemplateError

EXAMPLE = PromptTemplate.from_template("Q: {q} A: {a}")
EXAMPLES = [{"q": "one", "a": "1"}, {"q": "two", "a": "2"}]


def template(text: str, form: Any = "f-string") -> PromptTemplate:
    return PromptTemplate.from_template(text, template_format=form)


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (template("Use {context}. {input}"), "Use "),
        (template("Use {{{context}}}. {{input}}", "mustache"), "Use "),
        (template("{% if true %}Use{% endif %} {{ context }} {{ input }}", "jinja2"), "Use "),
        (template("{context}\n\n{input}"), ""),
        (template("Answer {input}\nfrom {context}"), ""),
        (template("Be brief.\nAnswer {input}\nfrom {context}"), "Be brief."),
        (template("As {who}: {context}").partial(who="a poet"), "As a poet: "),
        (
            ChatPromptTemplate.from_messages([("system", "Be brief."), ("human", "{context}")]),
            "System: Be brief.\nHuman: ",
        ),
        (
            ChatPromptTemplate.from_messages(
                [("system", "Use {context}"), MessagesPlaceholder("chat"), ("human", "{input}")]
            ),
            "System: Use ",
        ),
        (
            ChatPromptTemplate.from_messages(
                [("system", "Be brief."), MessagesPlaceholder("chat"), ("human", "{context}")]
            ),
            "System: Be brief.",
        ),
        (
            FewShotPromptTemplate(
                examples=EXAMPLES, example_prompt=EXAMPLE, suffix="{context} {input}",
                input_variables=["context", "input"],
            ),
            "Q: one A: 1\n\nQ: two A: 2\n\n",
        ),
        (
            FewShotPromptTemplate(
                example_selector=LengthBasedExampleSelector(
                    examples=EXAMPLES, example_prompt=EXAMPLE, max_length=100
                ),
                example_prompt=EXAMPLE, prefix="{input}", suffix="{context}",
                input_variables=["context", "input"],
            ),
            "",
        ),
    ],
)  # fmt: skip
def test_it_is_what_langchain_itself_puts_there(prompt: Any, expected: str) -> None:
    assert text_before_documents(prompt, "context") == expected


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        (template("Use {documents}"), "no variable 'context' for documents"),
        (template("{% for d in context %}{{ d }};{% endfor %}", "jinja2"), "not put the variable"),
        (template("{number:.2f} {context}"), "cannot be made with text for its variables"),
        ("Use {context}", "no variable 'context' for documents"),
    ],
)
def test_a_template_without_documents_as_they_are_is_refused(prompt: Any, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        text_before_documents(prompt, "context")
