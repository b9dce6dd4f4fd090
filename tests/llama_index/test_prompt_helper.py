"""WholeNodePromptHelper: whole texts in every prompt, by the model's own count of tokens."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import ChatMessage, CustomLLM, MockLLM
from llama_index.core.prompts import (
    BasePromptTemplate,
    ChatPromptTemplate,
    PromptTemplate,
    RichPromptTemplate,
)
from llama_index.core.prompts.default_prompt_selectors import (
    DEFAULT_REFINE_PROMPT_SEL,
    DEFAULT_TEXT_QA_PROMPT_SEL,
    DEFAULT_TREE_SUMMARIZE_PROMPT_SEL,
)
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import NodeWithScore, TextNode
from pydantic import BaseModel, PrivateAttr

from llama_index_promptcache.llm import PromptCacheLLM
from llama_index_promptcache.messages import to_engine
from llama_index_promptcache.prompt_helper import WholeNodePromptHelper
from promptcache import PromptCache
from promptcache.errors import OptionError, PromptError
from support.llama import unspeakable
from support.rag import tiny_engine
from support.words import TEMPLATE, byte_tokenizer

PROMPT = PromptTemplate("Texts:\n{context_str}\nQuestion: {query_str}\nAnswer: ")
REFINE = PromptTemplate("So far: {existing_answer}\n{context_msg}\nQuestion: {query_str}\nAnswer: ")
EMPTY = len(PROMPT.format(context_str="", query_str=""))
CHUNKS = [f"{i}: {'words ' * (3 + i % 4)}end{i}." for i in range(9)]


def characters(text: str) -> list[str]:
    """A tokenizer for which every character is a token."""
    return list(text)


def helper_for(room: int, **options: Any) -> WholeNodePromptHelper:
    """One with room for so many characters in PROMPT, the stock padding of 5 aside."""
    window = room + 5 + EMPTY + 7
    return WholeNodePromptHelper(window, num_output=7, tokenizer=characters, **options)


class Recorder(CustomLLM):
    """Keeps the prompts that it gets, and gives short answers."""

    window: int
    _prompts: list[str] = PrivateAttr(default_factory=list)

    @property
    def prompts(self) -> list[str]:
        return self._prompts

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=self.window, num_output=7)

    def complete(self, prompt: str, formatted: bool = False, **_: Any) -> CompletionResponse:
        self._prompts.append(prompt)
        return CompletionResponse(text=f"said {len(self._prompts)}")

    def stream_complete(
        self, prompt: str, formatted: bool = False, **_: Any
    ) -> CompletionResponseGen:
        raise NotImplementedError


# Packing.


@given(st.data(), st.integers(1, 60), st.lists(st.integers(0, 80), max_size=12))
def test_a_chunk_that_fits_alone_is_whole_in_one_text_in_order_and_every_text_fits(
    data: st.DataObject, room: int, sizes: list[int]
) -> None:
    letters = "abc \n"
    bodies = [
        data.draw(st.text(letters, min_size=n, max_size=n), label=f"chunk {i}")
        for i, n in enumerate(sizes)
    ]
    chunks = [f"{chr(0x3B1 + i)}{body}{chr(0x410 + i)}" for i, body in enumerate(bodies)]
    packed = helper_for(room).repack(PROMPT, chunks)
    assert packed
    assert all(len(text) <= room for text in packed)
    fitting = [chunk for chunk in chunks if len(chunk) <= room]
    places = []
    for chunk in fitting:
        [(index, text)] = [(i, text) for i, text in enumerate(packed) if chunk in text]
        places.append((index, text.index(chunk)))
    assert places == sorted(places)
    if fitting == chunks:
        assert "\n\n".join(packed) == "\n\n".join(chunks)
        for one, following in pairwise(packed):
            first = next(chunk for chunk in chunks if following.startswith(chunk))
            assert len(f"{one}\n\n{first}") > room, "packed less than fits"


@given(st.lists(st.text("ab \n\t", max_size=20), max_size=8))
def test_what_all_fits_is_joined_as_the_stock_helper_joins_it(chunks: list[str]) -> None:
    stock = PromptHelper(1000, num_output=7, tokenizer=characters)
    assert helper_for(900).repack(PROMPT, chunks) == (stock.repack(PROMPT, chunks) or [""])


def test_the_stock_helper_cuts_nodes_where_this_one_does_not() -> None:
    room = 100
    stock = PromptHelper(room + 5 + EMPTY + 7, num_output=7, tokenizer=characters)
    cut = stock.repack(PROMPT, CHUNKS)
    whole = helper_for(room).repack(PROMPT, CHUNKS)
    assert [c for c in CHUNKS if not any(c in text for text in cut)]
    assert [c for c in CHUNKS if not any(c in text for text in whole)] == []


def test_only_a_chunk_that_is_too_large_alone_is_cut_and_a_line_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    long = "long " * 20 + "end"
    packed = helper_for(60, chunk_overlap_ratio=0.0).repack(PROMPT, ["a" * 50, long, "short"])
    assert packed[0] == "a" * 50
    assert " ".join(packed[1:]).split() == [*long.split(), "short"]
    [line] = caplog.messages
    assert line.startswith("a text of 103 tokens is cut: the prompt has room for 60.")


def test_the_whole_counts_where_it_has_more_tokens_than_its_parts() -> None:
    def steep(text: str) -> list[str]:
        return list(text) + ["join"] * text.count("a\n\na") * 3

    helper = WholeNodePromptHelper(12 + 5 + EMPTY + 7, num_output=7, tokenizer=steep)
    packed = helper.repack(PROMPT, ["aaa", "aaa", "aaa"])
    assert packed == ["aaa\n\naaa", "aaa"]
    helper = WholeNodePromptHelper(10 + 5 + EMPTY + 7, num_output=7, tokenizer=steep)
    assert helper.repack(PROMPT, ["aaa", "aaa", "aaa"]) == ["aaa"] * 3


def test_what_was_packed_is_packed_anew_for_a_longer_prompt() -> None:
    [packed] = helper_for(1000).repack(PROMPT, CHUNKS)
    for text in (packed, copy.deepcopy(packed)):
        again = helper_for(70).repack(PROMPT, [text])
        assert len(again) > 1
        assert "\n\n".join(again) == "\n\n".join(CHUNKS)
        assert all(any(chunk in piece for piece in again) for chunk in CHUNKS)


@pytest.mark.parametrize("padding", [5, 6, 30, 65, 66, 67, 500])
def test_a_padding_for_which_a_text_would_be_cut_is_no_more_than_an_answer_can_have(
    padding: int,
) -> None:
    assert helper_for(62).repack(PROMPT, ["b" * 60], padding=padding) == ["b" * 60]
    cut = helper_for(62).repack(PROMPT, ["b" * 70], padding=padding)
    assert max(map(len, cut)) == 67 - min(padding, 7)


def test_a_pack_is_not_taken_apart_for_a_padding() -> None:
    [packed] = helper_for(100).repack(PROMPT, ["b" * 40] * 2)
    assert helper_for(100).repack(PROMPT, [packed], padding=50) == [packed]


def test_a_limit_of_the_chunk_size_is_kept() -> None:
    packed = helper_for(1000, chunk_size_limit=50).repack(PROMPT, CHUNKS)
    assert max(map(len, packed)) <= 50
    assert "\n\n".join(packed) == "\n\n".join(CHUNKS)


def test_a_prompt_without_room_is_refused() -> None:
    with pytest.raises(PromptError, match=r"the prompt takes \d+ tokens .* window of 30 holds"):
        WholeNodePromptHelper(30, num_output=7, tokenizer=characters).repack(PROMPT, CHUNKS)
    with pytest.raises(PromptError, match="no room for 1 texts: 0 tokens each, of the window"):
        helper_for(0).repack(PROMPT, CHUNKS)
    with pytest.raises(PromptError, match="no room for 9 texts"):
        helper_for(9).truncate(PROMPT, CHUNKS)


# Real synthesizers.


def scored(nodes: Sequence[TextNode]) -> list[NodeWithScore]:
    return [NodeWithScore(node=node, score=1.0) for node in nodes]


def answer(mode: ResponseMode, room: int, nodes: list[TextNode]) -> list[str]:
    """The prompts that a synthesizer of LlamaIndex's makes of the nodes."""
    question = "Why?"
    window = room + 5 + EMPTY + len(question) + 7
    llm = Recorder(window=window)
    helper = WholeNodePromptHelper(window, num_output=7, tokenizer=characters)
    synthesizer = get_response_synthesizer(
        llm=llm,
        prompt_helper=helper,
        text_qa_template=PROMPT,
        refine_template=REFINE,
        summary_template=PROMPT,
        response_mode=mode,
    )
    assert str(synthesizer.synthesize(question, scored(nodes)))
    assert all(len(prompt) + 7 <= window for prompt in llm.prompts)
    return llm.prompts


@pytest.mark.parametrize(
    "mode",
    [
        ResponseMode.COMPACT,
        ResponseMode.TREE_SUMMARIZE,
        ResponseMode.COMPACT_ACCUMULATE,
        ResponseMode.ACCUMULATE,
        ResponseMode.REFINE,
    ],
)
@pytest.mark.parametrize("room", [60, 90, 200])
def test_every_node_is_whole_in_one_prompt_of_every_response_mode(
    mode: ResponseMode, room: int
) -> None:
    prompts = answer(mode, room, [TextNode(text=chunk) for chunk in CHUNKS])
    assert len(prompts) > 1
    for chunk in CHUNKS:
        assert sum(chunk in prompt for prompt in prompts) == 1


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.TREE_SUMMARIZE])
def test_what_fits_one_prompt_is_asked_in_one(mode: ResponseMode) -> None:
    [prompt] = answer(mode, 1000, [TextNode(text=chunk) for chunk in CHUNKS])
    assert "\n\n".join(CHUNKS) in prompt


def test_a_simple_summary_shows_the_texts_and_not_a_list() -> None:
    texts = ['It\'s a "lighthouse".', "Two\nlines.", "A third text, which is longer."]
    nodes = [TextNode(text=text) for text in texts]
    [prompt] = answer(ResponseMode.SIMPLE_SUMMARIZE, 1000, nodes)
    assert prompt.startswith(f"Texts:\n{texts[0]}\n{texts[1]}\n{texts[2]}\nQuestion")
    [prompt] = answer(ResponseMode.SIMPLE_SUMMARIZE, 31, nodes)
    assert prompt.startswith(f"Texts:\n{texts[0]}\n{texts[1]}\nQuestion")


# Our own model, LlamaIndex's own templates.

NEW = 4
"""Tokens of an answer."""
SLACK = 9
"""The padding of 5, and what counts a message's frame twice."""
SENT = {
    ResponseMode.COMPACT: (DEFAULT_TEXT_QA_PROMPT_SEL, DEFAULT_REFINE_PROMPT_SEL),
    ResponseMode.REFINE: (DEFAULT_TEXT_QA_PROMPT_SEL, DEFAULT_REFINE_PROMPT_SEL),
    ResponseMode.TREE_SUMMARIZE: (DEFAULT_TREE_SUMMARIZE_PROMPT_SEL,),
    ResponseMode.ACCUMULATE: (DEFAULT_TEXT_QA_PROMPT_SEL,),
    ResponseMode.COMPACT_ACCUMULATE: (DEFAULT_TEXT_QA_PROMPT_SEL,),
    ResponseMode.SIMPLE_SUMMARIZE: (DEFAULT_TEXT_QA_PROMPT_SEL,),
}
"""The templates of every response mode."""


@cache
def shared_engine() -> PromptCache:
    return tiny_engine()


def tiny_llm(**settings: Any) -> PromptCacheLLM:
    """One whose answers have as many tokens as letters."""
    plain = {"suppress_tokens": list(unspeakable())}
    return PromptCacheLLM(
        engine=shared_engine(), max_new_tokens=NEW, generate_kwargs=plain, **settings
    )


def longest_prompt(llm: PromptCacheLLM, mode: ResponseMode, question: str, text: str) -> int:
    """The tokens of the longest prompt that holds a text, with its answer."""

    def size(template: BasePromptTemplate) -> int:
        values = {"query_str": question, "context_str": text, "context_msg": text}
        messages = template.format_messages(llm=llm, existing_answer="a" * NEW, **values)
        system = [ChatMessage(llm.system_prompt, role="system")] if llm.system_prompt else []
        return llm.engine.count_message_tokens(to_engine([*system, *messages]))

    return max(map(size, SENT[mode])) + NEW


def asked_of(
    llm: PromptCacheLLM, mode: ResponseMode, question: str, texts: Sequence[str]
) -> list[str]:
    """The prompts of an answer, each of which fits the window with what it is answered."""
    synthesizer = get_response_synthesizer(
        llm=llm, prompt_helper=WholeNodePromptHelper.from_llm(llm), response_mode=mode
    )
    with llm.engine.recording() as replies:
        synthesizer.synthesize(question, scored([TextNode(text=text) for text in texts]))
    assert llm.context_window is not None
    assert all(reply.usage.input_tokens + NEW <= llm.context_window for reply in replies)
    return ["".join(span.text for span in reply.trace) for reply in replies]


@pytest.mark.parametrize("mode", SENT)
@settings(max_examples=12, deadline=None)
@given(
    question=st.integers(1, 180),
    system=st.sampled_from([0, 30]),
    asked_room=st.integers(30, 700),
    sizes=st.lists(st.floats(0.0, 1.3), min_size=1, max_size=6),
)
def test_in_every_mode_prompts_fit_the_window_and_nodes_that_fit_alone_are_whole(
    mode: ResponseMode, question: int, system: int, asked_room: int, sizes: list[float]
) -> None:
    asked = "q" * question
    llm = tiny_llm(system_prompt="s" * system or None)
    empty = longest_prompt(llm, mode, asked, "") + SLACK
    llm.context_window = min(empty + asked_room, 1024)
    room = llm.context_window - empty
    texts = [
        f"n{i} {'ab ' * room}"[: max(3, int(room * size))] + "." for i, size in enumerate(sizes)
    ]
    prompts = asked_of(llm, mode, asked, texts)
    for i, text in enumerate(texts):
        alone = "\n".join(texts[: i + 1]) if mode == ResponseMode.SIMPLE_SUMMARIZE else text
        if len(alone) <= room:
            assert any(text in prompt for prompt in prompts)


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE])
@pytest.mark.parametrize("length", range(1, 240, 17))
def test_nodes_are_whole_and_calls_few_whatever_the_length_of_a_question(
    mode: ResponseMode, length: int
) -> None:
    llm = tiny_llm(context_window=1024)
    question = "q" * length
    texts = [f"n{i} {'x' * 66}." for i in range(12)]
    prompts = asked_of(llm, mode, question, texts)
    assert [text for text in texts if not any(text in prompt for prompt in prompts)] == []
    if mode == ResponseMode.COMPACT:
        room = 1024 - longest_prompt(llm, mode, question, "") - SLACK
        assert len(prompts) == -(-len(texts) // ((room + 2) // 72))


@pytest.mark.parametrize("mode", [ResponseMode.COMPACT, ResponseMode.REFINE])
@pytest.mark.parametrize("window", [700, 750, 800, 900, 1000])
def test_the_first_prompt_is_measured_though_another_template_is_asked_for(
    mode: ResponseMode, window: int
) -> None:
    llm = tiny_llm(context_window=window)
    assert asked_of(
        llm, mode, "Why?", [f"n{i} {'x' * (i % 9)}." for i in range(60)][: window // 20]
    )


async def test_answers_of_several_tasks_are_measured_each_with_its_own_question() -> None:
    llm = tiny_llm(context_window=1000)
    texts = [f"n{i} {'x' * 66}." for i in range(5)]
    synthesizer = get_response_synthesizer(
        llm=llm, prompt_helper=WholeNodePromptHelper.from_llm(llm), response_mode="refine"
    )
    nodes = scored([TextNode(text=text) for text in texts])
    questions = [letter * length for letter, length in (("q", 200), ("r", 1), ("s", 120))]
    with llm.engine.recording() as replies:
        await asyncio.gather(*(synthesizer.asynthesize(q, nodes) for q in questions))
    prompts = ["".join(span.text for span in reply.trace) for reply in replies]
    assert all(reply.usage.input_tokens + NEW <= 1000 for reply in replies)
    for question in questions:
        own = [prompt for prompt in prompts if question in prompt]
        assert all(any(text in prompt for prompt in own) for text in texts)


# Truncation.


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("aaaa bbbb\n\ncccc dd eeee ffff", "aaaa bbbb\n\ncccc dd"),
        ("aaaa bbbb cccc d\n\nd\nee ffff", "aaaa bbbb cccc d"),
        ("aaaa bbbb cccc d\ndd ee ffff", "aaaa bbbb cccc d"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "aaaaaaaaaaaaaaaaaaaa"),
        ("aaaa bbbb cccc dddd\n\nee ffff", "aaaa bbbb cccc dddd"),
        (" aaaa ", "aaaa"),
        ("\n", ""),
        ("", ""),
    ],
)
def test_a_text_is_cut_at_the_best_place_near_the_end(
    text: str, kept: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert helper_for(20).truncate(PROMPT, [text]) == [kept]
    lines = [line for line in caplog.messages if line.startswith("a text of ")]
    assert len(lines) == (len(text.strip()) > 20)


def test_a_cut_is_logged_with_the_sizes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    helper_for(20).truncate(PROMPT, ["aaaa bbbb cccc dddd eeee ffff"])
    [line] = caplog.messages
    assert line.startswith("a text of 29 tokens is cut after 19 of its 29 characters: the prompt")
    assert "room for 20 tokens" in line


def test_several_texts_share_the_room_and_are_a_list_that_reads_as_text() -> None:
    texts = helper_for(45).truncate(PROMPT, ["a" * 30, "b" * 10])
    assert texts == ["a" * 20, "b" * 10]
    assert str(texts) == f"{texts[0]}\n\n{texts[1]}"
    assert "\n".join(texts) == f"{texts[0]}\n{texts[1]}"
    for template in (PROMPT, RichPromptTemplate("{{ context_str }}|{{ query_str }}")):
        assert str(texts) in template.format(context_str=texts, query_str="?")
    assert helper_for(40).truncate(PROMPT, []) == []


# Counting.


def test_a_model_says_its_window_its_answer_and_how_it_counts() -> None:
    llm = PromptCacheLLM(
        engine=shared_engine(), context_window=1024, max_new_tokens=8, is_chat_model=False
    )
    helper = WholeNodePromptHelper.from_llm(llm)
    assert (helper.context_window, helper.num_output) == (1024, 8)
    text = "Zürich — Αθήνα"
    assert helper._token_counter.get_string_tokens(text) == llm.engine.count_tokens(text)
    assert llm.engine.count_tokens(text) == len(text.encode())
    assert WholeNodePromptHelper.from_llm(llm, chunk_size_limit=9).chunk_size_limit == 9


def test_a_model_of_others_and_an_unknown_option_are_refused_in_a_sentence() -> None:
    with pytest.raises(OptionError, match=r"^llm is a MockLLM; expected a PromptCacheLLM$"):
        WholeNodePromptHelper.from_llm(MockLLM())
    with pytest.raises(
        OptionError,
        match=r"^unknown parameter 'chunk_size'; did you mean 'chunk_size_limit'\? "
        r"\(parameters: chunk_overlap_ratio, .*, tokenizer\)$",
    ):
        WholeNodePromptHelper.from_llm(tiny_llm(), chunk_size=3)


def test_a_model_that_structures_its_output_counts_as_the_model_itself() -> None:
    llm = tiny_llm(context_window=900)
    helper = WholeNodePromptHelper.from_llm(llm.as_structured_llm(Answer))
    assert helper.context_window == 900
    assert helper._frame_tokens == WholeNodePromptHelper.from_llm(llm)._frame_tokens > 0


class Answer(BaseModel):
    text: str


class ChattingLLM(PromptCacheLLM):
    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=1024, num_output=-1, is_chat_model=True)


LONG_TEMPLATE = TEMPLATE.replace("<|{{", "[{{ message.role }} says]<|{{")


@pytest.mark.parametrize("template", [None, LONG_TEMPLATE])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_chat_prompt_is_counted_with_what_the_engines_template_puts_around_it(
    turns: int, template: str | None
) -> None:
    engine = tiny_engine(chat_template=template)
    helper = WholeNodePromptHelper.from_llm(ChattingLLM(engine=engine))
    assert helper.num_output == 256
    roles = ["system", "user", "assistant"][:turns]
    messages = [ChatMessage("Ägypten {context_str}", role=role) for role in roles]
    prompt = ChatPromptTemplate(messages)
    text = byte_tokenizer().apply_chat_template(
        [{"role": m.role.value, "content": "Ägypten "} for m in messages],
        tokenize=False,
        add_generation_prompt=True,
        chat_template=template,
    )
    exact = 1024 - 256 - len(byte_tokenizer()(text, add_special_tokens=False).input_ids)
    room = helper._get_available_chunk_size(prompt, 1, 0)
    message = 2 if template is None else 2 + len("[assistant says]")
    assert exact - 4 - message <= room <= exact


def test_a_model_that_writes_text_is_counted_with_what_its_function_writes() -> None:
    def as_text(messages: Sequence[ChatMessage]) -> str:
        return "".join(f"### {m.role.value.upper()} SAYS ###\n{m.content}\n" for m in messages)

    llm = tiny_llm(messages_to_prompt=as_text, context_window=1200)
    texts = [f"n{i} {'x' * 66}." for i in range(12)]
    assert len(asked_of(llm, ResponseMode.COMPACT, "Why?", texts)) > 1


def test_a_chat_template_that_cannot_be_measured_is_said_and_not_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    llm = ChattingLLM(engine=tiny_engine("{{ raise_exception('no') }}"))
    WholeNodePromptHelper.from_llm(llm).repack(PROMPT, ["Well?"])
    [line] = caplog.messages
    assert line.startswith(
        "a chat template's own tokens are not counted: the chat template refused"
    )
    assert line.endswith(": no")
