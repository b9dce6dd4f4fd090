"""WholeNodePromptHelper: whole texts in every prompt, by the model's own count of tokens."""

from __future__ import annotations

import copy
import logging
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.base.llms.types import CompletionResponse, CompletionResponseGen, LLMMetadata
from llama_index.core.indices.prompt_helper import PromptHelper
from llama_index.core.llms import ChatMessage, CustomLLM
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate, RichPromptTemplate
from llama_index.core.response_synthesizers import ResponseMode, get_response_synthesizer
from llama_index.core.schema import TextNode
from pydantic import PrivateAttr

from llama_index_promptcache.prompt_helper import WholeNodePromptHelper
from promptcache.errors import PromptError
from support.caching_llm import NODES, QUESTION, TEXTS, CachingLLM, scored
from support.words import byte_tokenizer

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
    packed = helper_for(60, chunk_overlap_ratio=0.0).repack(PROMPT, [TEXTS[0][:50], long, "short"])
    assert packed[0] == TEXTS[0][:50]
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


def test_padding_that_leaves_no_room_is_not_more_than_an_answer_can_have() -> None:
    for padding, room in ((65, 2), (66, 1), (67, 60), (500, 60)):
        packed = helper_for(62).repack(PROMPT, ["b" * 60], padding=padding)
        assert max(map(len, packed)) == room


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
    [prompt] = answer(ResponseMode.SIMPLE_SUMMARIZE, 1000, NODES)
    assert prompt.startswith(f"Texts:\n{TEXTS[0]}\n{TEXTS[1]}\n{TEXTS[2]}\nQuestion")
    assert answer(ResponseMode.SIMPLE_SUMMARIZE, 70, NODES)[0].startswith(f"Texts:\n{TEXTS[0]}\nQ")


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
    llm = CachingLLM()
    helper = WholeNodePromptHelper.from_llm(llm)
    assert (helper.context_window, helper.num_output) == (1024, 8)
    text = "Zürich — Αθήνα"
    assert helper._token_counter.get_string_tokens(text) == llm.engine.count_tokens(text)
    assert llm.engine.count_tokens(text) == len(text.encode())
    assert WholeNodePromptHelper.from_llm(llm, chunk_size_limit=9).chunk_size_limit == 9


class ChattingLLM(CachingLLM):
    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(context_window=1024, num_output=-1, is_chat_model=True)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_chat_prompt_is_counted_with_what_the_chat_template_puts_around_it(turns: int) -> None:
    llm = ChattingLLM()
    helper = WholeNodePromptHelper.from_llm(llm)
    assert helper.num_output == 256
    roles = ["system", "user", "assistant"][:turns]
    messages = [ChatMessage("Ägypten {context_str}", role=role) for role in roles]
    prompt = ChatPromptTemplate(messages)
    text = byte_tokenizer().apply_chat_template(
        [{"role": m.role.value, "content": "Ägypten "} for m in messages],
        tokenize=False,
        add_generation_prompt=True,
    )
    exact = 1024 - 256 - len(byte_tokenizer()(text, add_special_tokens=False).input_ids)
    room = helper._get_available_chunk_size(prompt, 1, 0)
    assert exact - 4 <= room <= exact


def test_a_chat_template_that_cannot_be_measured_is_said_and_not_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    llm = ChattingLLM()
    monkeypatch.setattr(llm.engine, "tokenizer", byte_tokenizer("{{ raise_exception('no') }}"))
    WholeNodePromptHelper.from_llm(llm).repack(PROMPT, [QUESTION])
    assert "a chat template's own tokens are not counted: no" in caplog.messages
