"""What the prompts of templates become for a PromptCacheLLM: LlamaIndex's own words, as PML."""

from __future__ import annotations

from typing import Any

import llama_index.core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage, ImageBlock, MessageRole, TextBlock
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import LLM, MockLLM
from llama_index.core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    PromptTemplate,
    RichPromptTemplate,
    SelectorPromptTemplate,
)
from llama_index.core.prompts.chat_prompts import CHAT_REFINE_PROMPT, CHAT_TEXT_QA_PROMPT
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.core.types import BaseOutputParser

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.messages import to_engine
from llama_index_promptcache.translation import TranslatedMessages, Translation
from promptcache import PromptCache
from promptcache.errors import TemplateError
from promptcache.pml import resolve
from promptcache.reply import Reply
from promptcache.templates import spoken_of
from support.llama import words_tokenizer
from support.rag import tiny_engine
from support.reuse import tokens_reused

TEXTS = [
    "The lighthouse of Arven is 31 metres tall and painted white.",
    "Mira Tollen plays the viola in Ostmark every summer, {really}.",
    "The Kolt museum opened in 1893, in a mill.\nEntry is free.",
]
NODES = [NodeWithScore(node=TextNode(text=text), score=1.0) for text in TEXTS]
JOINED = "\n\n".join(TEXTS)
TEMPLATE = PromptTemplate("Use only this:\n{context_str}\nQuestion: {query_str}")


def model(engine: PromptCache | None = None, **options: Any) -> PromptCacheLLM:
    return PromptCacheLLM(engine=engine or tiny_engine(), max_new_tokens=1, **options)


def chat(*messages: tuple[str, str], **options: Any) -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages(list(messages), **options)


def translated(
    llm: PromptCacheLLM, template: BasePromptTemplate, **values: Any
) -> Translation | None:
    """The PML of a prompt, after a look at whether it and the messages say what LlamaIndex says."""
    messages = llm._get_messages(template, **values)
    stock = MockLLM(is_chat_model=True, system_prompt=llm.system_prompt)
    stock.output_parser = llm.output_parser
    expected = LLM._get_messages(stock, template, **values)
    assert [*messages] == expected
    if not isinstance(messages, TranslatedMessages):
        return None
    translation = messages.translation
    assert translation is not None
    resolved = resolve(translation.schema, translation.prompt, translation.documents)
    assert [(m.role or "user", m.text) for m in resolved] == [*spoken_of(to_engine(expected))]
    return translation


def sent(reply: Reply) -> str:
    return "".join(span.text for span in reply.trace)


LATER = [("user", "Good day."), ("assistant", "Yes {context_str}?"), ("user", "{query_str}")]
CONDITIONAL = "{% if tone %}Be {{ tone }}. {% endif %}Use\n{{ context_str }}\n{{ query_str }}"
KINDS: dict[str, BasePromptTemplate] = {
    "text": TEMPLATE,
    "chat": CHAT_TEXT_QA_PROMPT,
    "selector": SelectorPromptTemplate(PromptTemplate("?"), [(lambda _: True, TEMPLATE)]),
    "rich": RichPromptTemplate("Use\n{{ context_str }}\n{{ query_str }}"),
    "rich chat": RichPromptTemplate(
        "{% chat role='system' %}Use\n{{ context_str }}{% endchat %}"
        "{% chat role='user' %}{{ query_str }}{% endchat %}"
    ),
    "rich, changed question": RichPromptTemplate(
        "Use\n{{ context_str }}\n{{ query_str | upper | truncate(9) }}"
    ),
    "rich, condition": RichPromptTemplate(CONDITIONAL),
    "rich, loop": RichPromptTemplate(
        "Use\n{{ context_str }}{% for n in [1, 2] %}\n{{ n }}: {{ query_str }}{% endfor %}"
    ),
    "mapped": PromptTemplate(
        "Use\n{nodes}\n{question}",
        template_var_mappings={"context_str": "nodes", "query_str": "question"},
    ),
    "function": PromptTemplate(
        "On {day}, use\n{context_str}\n{query_str}",
        function_mappings={"day": lambda **v: str(len(v["query_str"]))},
    ),
    "documents through a function": PromptTemplate(
        "Use\n{context_str}\n{query_str}",
        function_mappings={"context_str": lambda **v: v["context_str"].replace("\n\n", "\n\n- ")},
    ),
    "partial": PromptTemplate("Be {tone}.\n{context_str}\n{query_str}", tone="{brief}"),
    "question first": PromptTemplate("Answer {query_str} from {context_str}, {query_str}"),
    "documents twice": PromptTemplate("{context_str}\nAgain:\n{context_str}\n{query_str}"),
    "in a conversation": chat(("system", "Use\n{context_str}\nBe brief."), *LATER),
    "a variable without a value": PromptTemplate("Use\n{context_str}\n{query_str} {nothing}"),
}


@pytest.fixture(autouse=True)
def counted_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_index.core, "global_tokenizer", words_tokenizer)


@pytest.fixture(scope="module")
def llm() -> PromptCacheLLM:
    llm = model(system_prompt="You answer.")
    llm.cache_documents(NODES, progress=False)
    return llm


@pytest.mark.parametrize("name", KINDS)
def test_a_prompt_of_every_kind_of_template_imports_its_documents(
    llm: PromptCacheLLM, name: str
) -> None:
    translation = translated(llm, KINDS[name], context_str=JOINED, query_str="How tall is it?")
    assert translation is not None
    assert [*translation.documents.values()] == TEXTS
    assert translation.notes == ()


@pytest.mark.parametrize("name", KINDS)
def test_a_schema_is_the_same_for_every_question_and_every_choice_of_nodes(
    llm: PromptCacheLLM, name: str
) -> None:
    first = translated(llm, KINDS[name], context_str=JOINED, query_str="How tall is it?")
    reordered = f"{TEXTS[2]}\n\nA passage that was never seen before.\n\n{TEXTS[0]}"
    partial = KINDS[name].partial_format(query_str="And {why}?")
    second = translated(llm, partial, context_str=reordered)
    assert first is not None
    assert second is not None
    assert first.schema == second.schema
    if name != "rich, condition":
        assert llm.schema_from_prompt(KINDS[name]) == first.schema


@pytest.mark.parametrize("name", [*KINDS])
def test_what_is_cached_for_a_template_is_what_its_first_prompt_reuses(name: str) -> None:
    values = {"context_str": JOINED, "query_str": "How tall is it?"}
    if name == "rich, condition":
        values["tone"] = "brief"
    llm = model(system_prompt="You answer.")
    assert llm.cache_documents(NODES, prompt=KINDS[name], progress=False).encoded == len(TEXTS)
    with llm.engine.recording() as replies:
        llm.predict(KINDS[name], **values)
    [reply] = replies
    assert reply.usage.encoded == 0
    assert tokens_reused(reply) == sum(map(llm.engine.count_tokens, TEXTS))


def test_a_variable_may_be_given_under_the_templates_own_name(llm: PromptCacheLLM) -> None:
    template = PromptTemplate(
        "Use\n{context_str}\n{query_str}", template_var_mappings={"docs": "context_str"}
    )
    for name in ("docs", "context_str"):
        translation = translated(llm, template, query_str="Why?", **{name: JOINED})
        assert translation is not None
        assert [*translation.documents.values()] == TEXTS


def test_what_goes_to_the_model_is_what_llamaindex_and_the_chat_template_make_of_it(
    llm: PromptCacheLLM,
) -> None:
    messages = LLM._get_messages(
        MockLLM(is_chat_model=True, system_prompt="You answer."),
        TEMPLATE, context_str=JOINED, query_str="Why?",
    )  # fmt: skip
    with llm.engine.recording() as replies:
        llm.predict(TEMPLATE, context_str=JOINED, query_str="Why?")
    assert sent(replies[0]) == llm.engine.tokenizer.apply_chat_template(
        to_engine(messages), tokenize=False, add_generation_prompt=True
    )


async def test_predict_and_stream_and_their_likes_say_the_same_prompt(llm: PromptCacheLLM) -> None:
    values = {"context_str": JOINED, "query_str": "Why?"}
    with llm.engine.recording() as replies:
        llm.predict(TEMPLATE, **values)
        list(llm.stream(TEMPLATE, **values))
        await llm.apredict(TEMPLATE, **values)
        _ = [piece async for piece in await llm.astream(TEMPLATE, **values)]
    assert len({sent(reply) for reply in replies}) == 1
    whole = sum(map(llm.engine.count_tokens, TEXTS))
    assert [tokens_reused(reply) for reply in replies] == [whole] * 4


# Functions, parsers and templates of the user's own.


def test_functions_are_called_once_for_a_prompt() -> None:
    calls: list[tuple[str, str]] = []

    def day(**values: Any) -> str:
        calls.append(("day", values["query_str"]))
        return f"day {len(calls)}"

    def listed(**values: Any) -> str:
        calls.append(("listed", values["query_str"]))
        return "".join(f"- {text}\n" for text in values["context_str"].split("\n\n"))

    template = PromptTemplate(
        "Use\n{context_str}On {day}: {query_str}",
        function_mappings={"day": day, "context_str": listed},
    )
    llm = model()
    llm.cache_documents(NODES, prompt=template, progress=False)
    assert calls == []
    chosen = SelectorPromptTemplate(PromptTemplate("?"), [(lambda _: True, template)])
    for asked in (template, chosen):
        calls.clear()
        with llm.engine.recording() as replies:
            llm.predict(asked, context_str=JOINED, query_str="Why?")
        assert sorted(calls) == [("day", "Why?"), ("listed", "Why?")]
        assert replies[0].usage.encoded == 0
        assert tokens_reused(replies[0]) == sum(map(llm.engine.count_tokens, TEXTS))


def test_what_a_function_raises_is_raised() -> None:
    def broken(**_: Any) -> str:
        raise LookupError("no such day")

    template = PromptTemplate("{day} {context_str}", function_mappings={"day": broken})
    with pytest.raises(LookupError, match="no such day"):
        model().predict(template, context_str=JOINED)


class Instructing(BaseOutputParser):
    def parse(self, output: str) -> Any:
        return "parsed"

    def format(self, query: str) -> str:
        return f'{query}\n\nAnswer as {{"json": "..."}}.'


@pytest.mark.parametrize("front", [(), (("system", "Be brief."),)])
def test_output_parsers_of_templates_and_of_the_model_write_once(front: Any) -> None:
    llm = model()
    llm.output_parser = Instructing()
    messages = [*front, ("user", "{context_str}\n{query_str}")]
    template = chat(*messages, output_parser=Instructing())
    for _ in range(2):
        asked = llm._get_messages(template, context_str=JOINED, query_str="Why?")
        assert sum(str(message).count("json") for message in asked) == 2
        assert translated(llm, template, context_str=JOINED, query_str="Why?") is not None
    assert llm.predict(template, context_str=JOINED, query_str="Why?") == "parsed"


class Numbered(PromptTemplate):
    """A user's own: no two of its prompts begin alike."""

    def format(self, *args: Any, **kwargs: Any) -> str:
        made = self.metadata["made"] = self.metadata.get("made", 0) + 1
        return f"Prompt {made}. {super().format(*args, **kwargs)}"


class ByName(SelectorPromptTemplate):
    """A user's own: it selects by other means than conditions, and adds a message."""

    def select(self, llm: Any = None) -> BasePromptTemplate:
        return KINDS["function"]

    def format_messages(self, llm: Any = None, **kwargs: Any) -> list[ChatMessage]:
        return [
            ChatMessage("Go.", role=MessageRole.SYSTEM),
            *super().format_messages(llm, **kwargs),
        ]


def test_templates_of_the_users_own_kind_are_read_off_what_they_write(llm: PromptCacheLLM) -> None:
    values = {"context_str": JOINED, "query_str": "Why?"}
    translation = translated(llm, ByName(PromptTemplate("?")), **values)
    assert translation is not None
    assert [*translation.documents.values()] == TEXTS
    template = Numbered("{context_str}\n{query_str}")
    messages = llm._get_messages(template, **values)
    assert not isinstance(messages, TranslatedMessages)
    assert messages[-1].content == f"Prompt 1. {JOINED}\nWhy?"
    with pytest.raises(TemplateError, match="depends on what its values are"):
        llm.schema_from_prompt(template)


# Values.


@pytest.mark.parametrize(
    "value",
    ["", " \n", "{query_str} {{ x }} {% if %}", "\ue0000\ue001", "\U0010e5a0123.0\U0010e5a1",
     "<|user|></s>", None, 7, [], ["one", "two"], "\r\n a \x85"],
)  # fmt: skip
@pytest.mark.parametrize("name", KINDS)
def test_values_of_any_kind_are_said_as_llamaindex_says_them(
    llm: PromptCacheLLM, name: str, value: Any
) -> None:
    if name != "documents through a function":
        translated(llm, KINDS[name], context_str=value, query_str="Why?")
    if name not in ("function", "rich, changed question"):
        translated(llm, KINDS[name], context_str=JOINED, query_str=value)
    translated(llm, KINDS[name], context_str=JOINED, query_str="Why?", tone=value)


def test_a_document_that_comes_twice_is_a_module_once_and_is_not_noted(
    llm: PromptCacheLLM,
) -> None:
    twice = "\n\n".join([TEXTS[0], TEXTS[1], TEXTS[0]])
    translation = translated(llm, TEMPLATE, context_str=twice, query_str="Why?")
    assert translation is not None
    assert [*translation.documents.values()] == TEXTS[:2]
    assert translation.notes == ()
    with llm.engine.recording() as replies:
        for _ in range(2):
            llm.predict(TEMPLATE, context_str=twice, query_str="Why?")
    assert tokens_reused(replies[1]) == sum(map(llm.engine.count_tokens, TEXTS[:2]))


def test_refining_takes_documents_from_its_own_variable_and_leaves_the_answer() -> None:
    llm = model()
    llm.cache_documents(NODES, prompt=CHAT_REFINE_PROMPT, progress=False)
    filled = CHAT_REFINE_PROMPT.partial_format(query_str="Why?", existing_answer=TEXTS[0])
    translation = translated(llm, filled, context_msg=TEXTS[1])
    assert translation is not None
    assert [*translation.documents.values()] == [TEXTS[1]]
    with llm.engine.recording() as replies:
        llm.predict(filled, context_msg=TEXTS[1])
    assert replies[0].usage.encoded == 0
    assert tokens_reused(replies[0]) == llm.engine.count_tokens(TEXTS[1])


def test_two_document_variables_may_hold_the_same_documents(llm: PromptCacheLLM) -> None:
    template = chat(("system", "Use {context_str}"), ("user", "{context_msg}, {query_str}"))
    values = {"context_str": JOINED, "context_msg": TEXTS[1], "query_str": "Why?"}
    assert translated(llm, template, **values) is not None
    with llm.engine.recording() as replies:
        for _ in range(2):
            llm.predict(template, **values)
    said = [*TEXTS, TEXTS[1]]
    assert tokens_reused(replies[1]) == sum(map(llm.engine.count_tokens, said))


@pytest.mark.parametrize(
    ("template", "values"),
    [
        (PromptTemplate("{query_str}"), {"query_str": TEXTS[0]}),
        (PromptTemplate("{context_str}").partial_format(context_str=TEXTS[0]), {}),
        (PromptTemplate("{context_str}"), {"tone": "brief"}),
        (RichPromptTemplate("{{ context_str | upper }}"), {"context_str": TEXTS[0]}),
        (RichPromptTemplate("{% for d in context_str %}- {{ d }}\n{% endfor %}"),
         {"context_str": TEXTS}),
        (chat(("system", "{query_str}"), ("user", "{context_str}")),
         {"context_str": TEXTS[0], "query_str": "Why?"}),
        (chat(("tool", "Read."), ("user", "{context_str}")), {"context_str": TEXTS[0]}),
    ],
)  # fmt: skip
def test_what_cannot_be_said_in_pml_goes_as_plain_messages(
    llm: PromptCacheLLM, template: BasePromptTemplate, values: dict[str, Any]
) -> None:
    assert translated(llm, template, **values) is None


def test_an_image_is_left_to_the_engine_to_refuse(llm: PromptCacheLLM) -> None:
    blocks = [TextBlock(text="{context_str}"), ImageBlock(url="http://localhost/a.png")]
    template = ChatPromptTemplate([ChatMessage(blocks)])
    assert translated(llm, template, context_str=JOINED) is None


def test_conditions_on_values_choose_a_schema_and_flags_none(llm: PromptCacheLLM) -> None:
    template = KINDS["rich, condition"]
    values = {"context_str": JOINED, "query_str": "Why?"}
    with_tone = translated(llm, template, tone="brief", **values)
    assert with_tone is not None
    assert with_tone.schema == llm.schema_from_prompt(template)
    for without in ({}, {"tone": ""}, {"tone": None}):
        translation = translated(llm, template, **without, **values)
        assert translation is not None
        assert [*translation.documents.values()] == TEXTS


# Text that nobody registered.


def test_passages_between_blank_lines_are_modules_of_their_own_and_noted() -> None:
    llm = model()
    with llm.engine.recording() as replies:
        for order in (TEXTS, TEXTS[::-1]):
            llm.predict(CHAT_TEXT_QA_PROMPT, context_str="\n\n".join(order), query_str="Why?")
    first, second = replies
    assert tokens_reused(first) == 0
    assert second.usage.encoded == 0
    assert tokens_reused(second) == sum(map(llm.engine.count_tokens, TEXTS))
    [note] = second.trace.warnings
    assert note == (
        "3 passages of 'context_str', from one blank line to the next, belong to no registered "
        "document: 3 are modules of their own"
    )


def test_passages_are_computed_where_they_are_not_to_be_cut() -> None:
    llm = model(cut_passages=False)
    with llm.engine.recording() as replies:
        for _ in range(2):
            llm.predict(CHAT_TEXT_QA_PROMPT, context_str=JOINED, query_str="Why?")
    assert [tokens_reused(reply) for reply in replies] == [0, 0]
    assert replies[1].trace.warnings[0].endswith("no registered document: 3 are computed")


def test_registered_documents_are_modules_and_only_the_rest_is_cut() -> None:
    llm = model()
    llm.cache_documents(NODES[:1], progress=False)
    translation = translated(llm, TEMPLATE, context_str=f"{JOINED}\n\nShort.", query_str="Why?")
    assert translation is not None
    assert [*translation.documents.values()] == TEXTS
    assert translation.passages == ("\n\n".join([*TEXTS[1:], "Short."]),)
    [note] = translation.notes
    assert note.startswith("3 passages of 'context_str'")
    assert note.endswith("2 are modules of their own, 1 is computed")


def test_a_list_in_place_of_text_is_noted() -> None:
    llm = model()
    llm.cache_documents(NODES, progress=False)
    with llm.engine.recording() as replies:
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode="simple_summarize", prompt_helper=helper(10**5)
        )
        synthesizer.synthesize("Why?", NODES)
    assert any(
        note.startswith("'context_str' was given as a list, and the prompt holds what Python")
        for note in replies[0].trace.warnings
    )


def helper(window: int) -> PromptHelper:
    return PromptHelper(context_window=window, num_output=8, tokenizer=words_tokenizer)


@pytest.mark.parametrize(
    ("mode", "window"), [("compact", 660), ("tree_summarize", 190), ("compact_accumulate", 190)]
)
@pytest.mark.parametrize("cut_passages", [True, False])
def test_a_node_that_a_synthesizer_cut_in_two_is_noted_and_whole_ones_are_reused(
    mode: str, window: int, cut_passages: bool
) -> None:
    llm = model(cut_passages=cut_passages)
    long = " ".join(f"Room {n} of the inn looks at the sea, and costs {n} marks." for n in range(9))
    nodes = [*NODES, NodeWithScore(node=TextNode(text=long), score=1.0)]
    llm.cache_documents(nodes, progress=False)
    with llm.engine.recording() as replies:
        synthesizer = get_response_synthesizer(
            llm=llm, response_mode=mode, prompt_helper=helper(window)
        )
        for _ in range(2):
            synthesizer.synthesize("Why?", nodes)
    again = replies[len(replies) // 2 :]
    notes = [note for reply in again for note in reply.trace.warnings]
    said = f"the document {long[:40]!r} is not whole here: cut"
    assert any(note.startswith(said) for note in notes)
    whole = [text for text in TEXTS if any(text in sent(reply) for reply in again)]
    assert whole
    assert sum(map(tokens_reused, again)) >= sum(map(llm.engine.count_tokens, whole))


# Text models.


def test_a_text_model_reuses_what_was_cached_behind_a_templates_beginning() -> None:
    llm = model(is_chat_model=False)
    synthesizer = get_response_synthesizer(llm=llm, response_mode="compact")
    template = synthesizer.get_prompts()["text_qa_template"]
    assert llm.cache_documents(NODES, prompt=template, progress=False).encoded == len(TEXTS)
    with llm.engine.recording() as replies:
        for order in (NODES, NODES[::-1]):
            synthesizer.synthesize("How tall is it?", order)
    assert [reply.usage.encoded for reply in replies] == [0, 0]
    whole = sum(map(llm.engine.count_tokens, TEXTS))
    assert [tokens_reused(reply) for reply in replies] == [whole, whole]


# Random templates and values.

MARKUP = st.sampled_from(
    ["{context_str}", "{context_msg}", "{query_str}", "{tone}", "{fixed}", "{made}"]
)
WRITTEN = st.lists(st.text("ab {}\n%\ue0000", max_size=6) | MARKUP, max_size=6).map("".join)
RICH = WRITTEN.map(
    lambda text: text.replace("%", "").replace("{", "{{").replace("}", "}}")
) | st.sampled_from([CONDITIONAL, "{{ context_str | trim }} {{ tone | upper }} {{ query_str }}"])
VALUES = st.lists(
    st.sampled_from([*TEXTS, "A passage that nobody has registered.", "short", "{tone}", "\n\n"])
    | st.text("xy{}\n \ue0000\U0010e5a0", max_size=5),
    max_size=5,
).map("\n\n".join)
ROLES = st.sampled_from(["system", "user", "assistant"])


@st.composite
def templates(draw: st.DrawFn) -> BasePromptTemplate:
    options: dict[str, Any] = {"fixed": draw(st.sampled_from(["", "fixed {tone}", "f"]))}
    if draw(st.booleans()):
        options["function_mappings"] = {"made": lambda **values: f"<{sorted(values)}>"}
    if draw(st.booleans()):
        options["template_var_mappings"] = {"query_str": "tone", "tone": "query_str"}
    if draw(st.booleans()):
        options["output_parser"] = Instructing()
    kind = draw(st.sampled_from(["text", "chat", "rich", "rich chat"]))
    if kind == "text":
        return PromptTemplate(draw(WRITTEN), **options)
    if kind == "chat":
        messages = draw(st.lists(st.tuples(ROLES, WRITTEN), min_size=1, max_size=4))
        return chat(*messages, **options)
    if kind == "rich chat":
        turns = draw(st.lists(st.tuples(ROLES, RICH), min_size=1, max_size=3))
        said = (f"{{% chat role='{role}' %}}{text}{{% endchat %}}" for role, text in turns)
        return parsed(RichPromptTemplate, "\n".join(said), options)
    return parsed(RichPromptTemplate, draw(RICH), options)


def parsed(kind: Any, text: str, options: dict[str, Any]) -> BasePromptTemplate:
    """A rich template; an empty one for text that is no jinja."""
    try:
        made: BasePromptTemplate = kind(text, **options)
        made.format()
    except Exception:
        return RichPromptTemplate("{{ context_str }}", **options)
    return made


@given(
    template=templates(),
    values=st.fixed_dictionaries({"context_str": VALUES, "query_str": VALUES}, optional={
        "context_msg": VALUES, "tone": VALUES, "made": VALUES,
    }),
    partial=st.booleans(),
)  # fmt: skip
@settings(max_examples=200, deadline=None)
def test_every_prompt_of_every_template_says_what_llamaindex_says(
    llm: PromptCacheLLM, template: BasePromptTemplate, values: dict[str, str], partial: bool
) -> None:
    if partial:
        template = template.partial_format(query_str=values.pop("query_str"))
    translated(llm, template, **values)


@given(
    written=st.lists(st.tuples(ROLES, WRITTEN), min_size=1, max_size=3),
    first=st.tuples(VALUES, VALUES, VALUES, VALUES),
    second=st.tuples(VALUES, VALUES, VALUES, VALUES),
)
@settings(max_examples=200, deadline=None)
def test_the_schema_of_random_templates_is_that_of_all_their_prompts(
    llm: PromptCacheLLM, written: Any, first: Any, second: Any
) -> None:
    template = chat(*written, fixed="fixed", function_mappings={"made": lambda **_: "made"})
    names = ("context_str", "context_msg", "query_str", "tone")
    try:
        schema = llm.schema_from_prompt(template)
    except TemplateError:
        schema = None
    for values in (first, second):
        translation = translated(llm, template, **dict(zip(names, values, strict=True)))
        assert translation is None or translation.schema == schema


def test_a_conversation_before_the_documents_is_no_beginning_of_theirs() -> None:
    """Each turn would be another preamble; as plain messages, the system message is theirs."""
    llm = model()
    llm.cache_documents(NODES, progress=False)
    said = [("user", "Good day."), ("assistant", "Good day to you.")]
    with llm.engine.recording() as replies:
        for turn in range(4):
            last = ("user", "Notes:\n{context_str}\n{query_str}")
            template = chat(("system", "You know the whole of the library."), *said, last)
            llm.predict(template, context_str=JOINED, query_str=f"Why {turn}?")
            said += [("user", f"Why {turn}?"), ("assistant", "Because.")]
    assert [reply.usage.encoded > 0 for reply in replies] == [True, False, False, False]


def test_what_follows_the_documents_costs_no_second_rendering(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    llm = model()
    turns = [("user", "Why?"), ("assistant", "Because.")] * 50
    template = chat(("system", "Use\n{context_str}"), *turns, ("user", "{query_str}"))
    rendered = []
    fill = ChatPromptTemplate.format_messages

    def counted(self: ChatPromptTemplate, *args: Any, **kwargs: Any) -> list[ChatMessage]:
        rendered.append(len(self.message_templates))
        return fill(self, *args, **kwargs)

    monkeypatch.setattr(ChatPromptTemplate, "format_messages", counted)
    messages = llm._get_messages(template, context_str=JOINED, query_str="Why?")
    assert isinstance(messages, TranslatedMessages) and messages.translation is not None
    assert rendered == [len(turns) + 2, 1]
