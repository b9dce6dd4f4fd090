"""LlamaIndex's prompt templates as PML: the schema that a template's prompts share."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest
from langchain_classic.chains.prompt_selector import ConditionalPromptSelector
from langchain_core.prompts import ChatPromptTemplate as LangchainChat
from langchain_core.prompts import PromptTemplate as LangchainText
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.llms import MockLLM
from llama_index.core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    LangchainPromptTemplate,
    PromptTemplate,
    RichPromptTemplate,
    SelectorPromptTemplate,
)
from llama_index.core.prompts.default_prompt_selectors import (
    DEFAULT_REFINE_PROMPT_SEL,
    DEFAULT_TEXT_QA_PROMPT_SEL,
    DEFAULT_TREE_SUMMARIZE_PROMPT_SEL,
)
from llama_index.core.types import BaseOutputParser

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.templates import schema_from_prompt
from promptcache.errors import TemplateError
from promptcache.pml import Collection, Role, Schema, Text, parse_schema, write
from support.rag import tiny_engine

CONTEXT = Collection("context_str")
CHATTING = MockLLM(is_chat_model=True)


class Instructing(BaseOutputParser):
    def parse(self, output: str) -> Any:
        return output

    def format(self, query: str) -> str:
        return f'{query}\n\nAnswer as {{"json": "..."}}.'


def chat(*messages: tuple[str, str], **options: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages(list(messages), **options)


def children(template: BasePromptTemplate, **options: Any) -> tuple[Any, ...]:
    schema = schema_from_prompt(template, **options)
    assert parse_schema(write(schema)) == schema
    return schema.children


def fixed(schema: Schema) -> str:
    """All fixed text, message by message."""
    texts = (
        "".join(node.text for node in role.children if isinstance(node, Text))
        for role in schema.children
        if isinstance(role, Role)
    )
    return "|".join(texts)


QA = (Role("user", (Text("Use\n"), CONTEXT)),)


@pytest.mark.parametrize(
    "template",
    [
        PromptTemplate("Use\n{context_str}\nQuestion: {query_str}"),
        chat(("user", "Use\n{context_str}\nQuestion: {query_str}")),
        RichPromptTemplate("Use\n{{ context_str }}\nQuestion: {{ query_str }}"),
        RichPromptTemplate(
            "{% chat role='user' %}Use\n{{ context_str }}\nQuestion: {{ query_str }}{% endchat %}"
        ),
        PromptTemplate(
            "Use\n{nodes}\nQuestion: {question}",
            template_var_mappings={"context_str": "nodes", "query_str": "question"},
        ),
        PromptTemplate(
            "Use\n{context_str}\nQuestion: {query_str}",
            function_mappings={"context_str": lambda **_: "- bullets"},
        ),
        PromptTemplate("Use\n{context_str}\nQuestion: {query_str}").partial_format(query_str="Q?"),
        SelectorPromptTemplate(
            PromptTemplate("Never."),
            [(lambda llm: True, PromptTemplate("Use\n{context_str}\nQuestion: {query_str}"))],
        ),
    ],
)
def test_every_kind_of_template_has_the_schema_of_what_it_writes(
    template: BasePromptTemplate,
) -> None:
    assert children(template) == QA


@pytest.mark.parametrize(
    ("template", "variable"),
    [
        (DEFAULT_TEXT_QA_PROMPT_SEL, "context_str"),
        (DEFAULT_TREE_SUMMARIZE_PROMPT_SEL, "context_str"),
        (DEFAULT_REFINE_PROMPT_SEL, "context_msg"),
    ],
)
def test_llamaindexs_own_templates_have_the_schema_of_their_chat_form(
    template: SelectorPromptTemplate, variable: str
) -> None:
    chosen = template.select(CHATTING)
    assert isinstance(chosen, ChatPromptTemplate)
    before = chosen.message_templates[-1].content.partition(f"{{{variable}}}")[0]  # type: ignore[union-attr]
    *_, last = children(template)
    assert last.children[:2] == (Text(before), Collection(variable))
    assert children(template) == children(chosen)
    assert children(template, llm=MockLLM()) != children(template)


def test_values_of_the_users_own_are_fixed_text_and_those_of_synthesizers_are_not() -> None:
    template = chat(("system", "Be {tone}."), ("user", "{context_str}, {existing_answer}"))
    filled = template.partial_format(tone="brief", existing_answer="Yes.", query_str="Why?")
    assert children(filled) == (
        Role("system", (Text("Be brief."),)), Role("user", (CONTEXT,)),
    )  # fmt: skip


def test_a_filled_variable_that_a_function_gives_anew_is_no_fixed_text() -> None:
    template = PromptTemplate(
        "Be brief. On {day}: {context_str}",
        function_mappings={"day": lambda **_: "Monday"},
        day="Sunday",
    )
    assert children(template) == (Role("user", (Text("Be brief."), CONTEXT)),)


def test_a_value_filled_in_under_the_templates_own_name_is_fixed_text() -> None:
    template = PromptTemplate(
        "Be {manner}.\n{context_str}", template_var_mappings={"tone": "manner"}, manner="brief"
    )
    assert children(template) == (Role("user", (Text("Be brief.\n"), CONTEXT)),)


def test_a_variable_of_documents_may_be_named_as_the_template_names_it() -> None:
    template = PromptTemplate("Use {context_str}!", template_var_mappings={"docs": "context_str"})
    assert children(template) == (Role("user", (Text("Use "), Collection("docs"))),)


def test_two_document_variables_are_two_collections() -> None:
    template = chat(("system", "{context_msg}"), ("user", "{context_str}, {query_str}"))
    assert children(template) == (
        Role("system", (Collection("context_msg"),)), Role("user", (CONTEXT,)),
    )  # fmt: skip


def test_what_follows_the_message_with_the_documents_is_each_prompts_own() -> None:
    system = ("system", "Use\n{context_str}\nBe brief.")
    turns = [("user", "Hello {context_str}!"), ("assistant", "Yes?"), ("user", "{query_str}")]
    expected = (Role("system", (Text("Use\n"), CONTEXT)),)
    assert children(chat(system, turns[-1])) == expected
    assert children(chat(system, *turns)) == expected


def test_the_question_in_front_of_the_documents_ends_what_prompts_share() -> None:
    template = PromptTemplate("Be brief! Answer {query_str} from {context_str} only.")
    assert children(template) == (Role("user", (Text("Be brief!"), CONTEXT)),)


def test_the_models_system_prompt_is_part_of_the_schema() -> None:
    llm = MockLLM(is_chat_model=True, system_prompt="Be {brief}.")
    assert children(PromptTemplate("Use {context_str}"), llm=llm) == (
        Role("system", (Text("Be {brief}."),)), Role("user", (Text("Use "), CONTEXT)),
    )  # fmt: skip


def test_what_an_output_parser_writes_into_the_first_system_message_is_part_of_the_schema() -> None:
    llm = MockLLM(is_chat_model=True)
    llm.output_parser = Instructing()
    messages = [("system", "Use this."), ("user", "{context_str}")]
    expected = 'Use this.\n\nAnswer as {"json": "..."}.|'
    assert fixed(schema_from_prompt(chat(*messages), llm)) == expected
    assert fixed(schema_from_prompt(chat(*messages, output_parser=Instructing()))) == expected


@pytest.mark.parametrize("text", ["\ue0000\ue001", "{0} {} {a b} }{", "{{ if }} {% set x %}"])
def test_braces_jinja_and_private_use_characters_of_a_template_are_text(text: str) -> None:
    assert children(PromptTemplate(f"{text}: {{context_str}}")) == (
        Role("user", (Text(f"{text}: "), CONTEXT)),
    )


def test_a_mark_that_is_part_of_a_template_is_nothing_that_prompts_are_known_to_share() -> None:
    template = PromptTemplate("Yes. \U0010e5a0123.0\U0010e5a1 b {context_str}")
    assert children(template) == (Role("user", (Text("Yes."), CONTEXT)),)


@pytest.mark.parametrize(
    ("written", "shared"),
    [
        ("Use {{ context_str }}, {{ query_str | upper }}!", (Text("Use "), CONTEXT)),
        ("Use {{ context_str }}, {{ query_str | truncate(9) }}!",
         (Text("Use "), CONTEXT)),
        ("Use {{ context_str }}{% for n in tags %} {{ n }}{% endfor %}", (Text("Use "), CONTEXT)),
        ("Of {{ tags | tojson }}: {{ context_str }}", (CONTEXT,)),
        ("Now. {% if tone %}Be {{ tone }}. {% endif %}{{ context_str }}",
         (Text("Now."), CONTEXT)),
        ("{{ context_str | trim }}!", (CONTEXT,)),
    ],
)  # fmt: skip
def test_a_rich_template_shares_what_stands_before_a_value_that_it_changes(
    written: str, shared: tuple[Any, ...]
) -> None:
    assert children(RichPromptTemplate(written)) == (Role("user", shared),)


class Reversing(PromptTemplate):
    """A user's own: it puts the text behind what it writes."""

    def format(self, *args: Any, **kwargs: Any) -> str:
        return f"{super().format(*args, **kwargs)} Begin."


class ByName(SelectorPromptTemplate):
    """A user's own: it selects by other means than conditions."""

    def select(self, llm: Any = None) -> BasePromptTemplate:
        return Reversing("By name: {context_str}", function_mappings={"a": lambda **_: "A"})


def test_templates_of_the_users_own_kind_write_themselves() -> None:
    assert children(Reversing("Use {context_str}:")) == (Role("user", (Text("Use "), CONTEXT)),)
    assert children(ByName(PromptTemplate("Never."))) == (
        Role("user", (Text("By name: "), CONTEXT)),
    )


@pytest.fixture
def langchain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for the modules of llama-index-llms-langchain, and for LlamaIndex's bridge to
    LangChain, which imports names that langchain-community has no more.
    """
    bridge = ModuleType("llama_index.core.bridge.langchain")
    bridge.ConditionalPromptSelector = ConditionalPromptSelector  # type: ignore[attr-defined]
    models = ModuleType("llama_index.llms.langchain")
    models.LangChainLLM = type("LangChainLLM", (), {})  # type: ignore[attr-defined]
    utils = ModuleType("llama_index.llms.langchain.utils")
    roles = {"human": MessageRole.USER, "ai": MessageRole.ASSISTANT, "system": MessageRole.SYSTEM}
    utils.from_lc_messages = lambda messages: [  # type: ignore[attr-defined]
        ChatMessage(m.content, role=roles[m.type]) for m in messages
    ]
    for module in (bridge, models, utils, ModuleType("llama_index.llms")):
        monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.mark.usefixtures("langchain")
def test_a_template_of_langchains_is_rendered_by_langchain() -> None:
    both = [
        LangchainText.from_template("Be {tone}. Use {context_str}, {query_str}"),
        LangchainChat([("human", "Be {tone}. Use {context_str}, {query_str}")]),
    ]
    expected = (Role("user", (Text("Be brief. Use "), CONTEXT)),)
    for template in both:
        mine = LangchainPromptTemplate(template.partial(tone="brief"))
        theirs = LangchainPromptTemplate(template).partial_format(tone="brief", query_str="Why?")
        assert children(mine) == children(theirs) == expected
    mapped = LangchainPromptTemplate(
        LangchainText.from_template("Use {docs}"), template_var_mappings={"context_str": "docs"}
    )
    assert children(mapped) == (Role("user", (Text("Use "), CONTEXT)),)


def test_a_schema_may_be_named_and_another_variable_hold_documents() -> None:
    template = PromptTemplate("Sum up: {text}")
    schema = schema_from_prompt(template, document_variables=("text",), name="sums")
    assert schema == schema_from_prompt(template, document_variables="text", name="sums")
    assert schema.name == "sums"
    assert schema.children == (Role("user", (Text("Sum up: "), Collection("_text"))),)


def test_the_schema_of_a_model_is_that_of_its_templates_alone() -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), system_prompt="Be brief.")
    template = PromptTemplate("Use {context_str}, {query_str}")
    plain = MockLLM(is_chat_model=True, system_prompt="Be brief.")
    assert llm.schema_from_prompt(template) == schema_from_prompt(template, llm)
    assert schema_from_prompt(template, llm) == schema_from_prompt(template, plain)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("Use {context_str}", "the prompt is a str; expected a prompt template of LlamaIndex's"),
        (LangchainText.from_template("{context_str}"), "the prompt is a PromptTemplate; expected"),
        (PromptTemplate("{query_str}, {docs}"),
         "no variable 'context_str' or 'context_msg' for documents; .*variables: docs, query_str"),
        (PromptTemplate("{context_str}").partial_format(context_str="All."), "no variable"),
        (RichPromptTemplate("{% for d in context_str %}- {{ d }}\n{% endfor %}"), "no variable"),
        (RichPromptTemplate("{{ 7 + tags }}{{ context_str }}"), "cannot be made with text for its"),
        (chat(("system", "Be {tone}."), ("user", "{context_str}")),
         "the variable 'tone' stands in a message before that of the documents"),
        (RichPromptTemplate("{{ query_str | length }} {{ context_str }}"),
         "depends on what its values are"),
    ],
)  # fmt: skip
def test_a_template_whose_prompts_share_nothing_known_is_refused(template: Any, said: str) -> None:
    with pytest.raises(TemplateError, match=said):
        schema_from_prompt(template)


@pytest.mark.parametrize(
    ("template", "front"),
    [
        (PromptTemplate("Use\n{context_str}\n{query_str}"), "Use\n"),
        (PromptTemplate("Be brief.\nAnswer {query_str} from\n{context_str}"), "Be brief."),
        (RichPromptTemplate("Use {{ context_str }} {{ query_str | truncate(9) }}"), "Use "),
        (RichPromptTemplate("Of {{ tags | tojson }}: {{ context_str }}"), ""),
        (chat(("system", "Be brief."), ("user", "Use {context_str}")),
         "system: Be brief.\nuser: Use "),
        (DEFAULT_TEXT_QA_PROMPT_SEL, "Context information is below.\n---------------------\n"),
    ],
)  # fmt: skip
def test_documents_of_a_text_model_stand_behind_what_its_prompts_begin_with(
    template: BasePromptTemplate, front: str
) -> None:
    engine = tiny_engine()
    llm = PromptCacheLLM(engine=engine, is_chat_model=False)
    document = "The lighthouse of Arven is 31 metres tall."
    assert llm.cache_documents([document], prompt=template, progress=False).encoded == 1
    kept = engine.cache_documents([document], preamble=front, progress=False)
    assert kept.encoded == 0


@pytest.mark.parametrize(
    "template",
    [
        PromptTemplate("{query_str}"),
        RichPromptTemplate("{{ query_str | length }} {{ context_str }}"),
    ],
)
def test_a_text_models_template_without_a_known_beginning_is_refused(
    template: BasePromptTemplate,
) -> None:
    llm = PromptCacheLLM(engine=tiny_engine(), is_chat_model=False)
    with pytest.raises(TemplateError):
        llm.cache_documents(["A document of some words."], prompt=template, progress=False)
