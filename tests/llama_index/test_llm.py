"""PromptCacheLLM: text in, text out, in eight forms, with LlamaIndex's events and accounts."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Any

import pytest
import torch
from llama_index.core.callbacks import (
    CallbackManager,
    CBEventType,
    LlamaDebugHandler,
    TokenCountingHandler,
)
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MessageRole
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.prompts.chat_prompts import CHAT_TEXT_QA_PROMPT

from llama_index_promptcache import PromptCacheLLM
from promptcache import NoReuse, PromptCache
from promptcache.errors import OptionError, PromptCacheError, PromptError
from support.llama import unspeakable
from support.rag import tiny_engine
from support.words import byte_tokenizer
from support.zoo import model

LENGTH = 12
QUESTION = "How tall is the lighthouse?"
USER = f"<s><|user|>{QUESTION}</s><|assistant|>"
CHAT = [ChatMessage(QUESTION)]
DOCUMENT = "The lighthouse of Arven is 31 metres tall and painted white."
PROMPT = PromptTemplate("Use this.\n\n{context_str}\n\nQuestion: {query_str}")


def llm(engine: PromptCache | None = None, **settings: Any) -> PromptCacheLLM:
    """Greedy, and in letters alone, which no form of an answer strips."""
    greedy = {"generate_kwargs": {"suppress_tokens": list(unspeakable())}, "temperature": 0}
    return PromptCacheLLM(
        engine=engine or tiny_engine(), **{**greedy, "max_new_tokens": LENGTH, **settings}
    )


def plain(prompt: str, length: int = LENGTH) -> str:
    """What transformers alone answer to a prompt, in which control tokens are spelled out."""
    ids = byte_tokenizer()(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    said = model("llama").generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=length,
        do_sample=False,
        suppress_tokens=list(unspeakable()),
    )
    answer: str = byte_tokenizer().decode(said[0, ids.shape[1] :])
    return answer


# The eight forms of a request, each as an async function from an LLM to its responses.

Responses = Sequence[ChatResponse | CompletionResponse]
FORMS: dict[str, Callable[[PromptCacheLLM], Any]] = {}


def form(function: Callable[[PromptCacheLLM], Any]) -> Callable[[PromptCacheLLM], Any]:
    FORMS[function.__name__] = function
    return function


@form
async def complete(asked: PromptCacheLLM) -> Responses:
    return [asked.complete(QUESTION)]


@form
async def chat(asked: PromptCacheLLM) -> Responses:
    return [asked.chat(CHAT)]


@form
async def stream_complete(asked: PromptCacheLLM) -> Responses:
    return list(asked.stream_complete(QUESTION))


@form
async def stream_chat(asked: PromptCacheLLM) -> Responses:
    return list(asked.stream_chat(CHAT))


@form
async def acomplete(asked: PromptCacheLLM) -> Responses:
    return [await asked.acomplete(QUESTION)]


@form
async def achat(asked: PromptCacheLLM) -> Responses:
    return [await asked.achat(CHAT)]


@form
async def astream_complete(asked: PromptCacheLLM) -> Responses:
    return [piece async for piece in await asked.astream_complete(QUESTION)]


@form
async def astream_chat(asked: PromptCacheLLM) -> Responses:
    return [piece async for piece in await asked.astream_chat(CHAT)]


STREAMS = [name for name in FORMS if "stream" in name]
ASYNCHRONOUS = [name for name in FORMS if name.startswith("a")]


def text_of(response: ChatResponse | CompletionResponse) -> str:
    if isinstance(response, CompletionResponse):
        return response.text
    return response.message.content or ""


@pytest.mark.parametrize("name", FORMS)
async def test_every_form_answers_as_transformers_do_through_the_chat_template(name: str) -> None:
    last = (await FORMS[name](llm()))[-1]
    assert text_of(last) == plain(USER)
    usage = last.raw["usage"]
    assert usage["prompt_tokens"] == len(byte_tokenizer()(USER, add_special_tokens=False).input_ids)
    assert usage["completion_tokens"] == LENGTH
    assert usage["total_tokens"] == usage["prompt_tokens"] + LENGTH


@pytest.mark.parametrize("name", STREAMS)
async def test_pieces_are_cumulative_and_the_last_says_how_it_came_about(name: str) -> None:
    pieces = await FORMS[name](llm())
    so_far = ""
    for piece in pieces:
        so_far += piece.delta
        assert text_of(piece) == so_far
    assert so_far == plain(USER)
    assert [piece.raw is not None for piece in pieces] == [False] * LENGTH + [True]


async def test_pieces_come_as_they_are_made() -> None:
    engine = tiny_engine()
    with engine.recording() as replies:
        for made, _ in zip(range(1, 4), llm(engine).stream_chat(CHAT), strict=False):
            assert len(replies[0].token_ids) <= made + 1


async def test_how_an_answer_came_about_is_plain_json() -> None:
    raws = [(await ask(llm()))[-1].raw for ask in FORMS.values()]
    for raw in raws:
        assert json.loads(json.dumps(raw)) == raw
        assert raw["model_name"] == "tiny"
        assert raw["finish_reason"] == "length"
        assert raw["policy"] == "Modular()"
        assert sum(raw["timings"].values()) == pytest.approx(raw["ttft"])
        assert "".join(span["text"] for span in raw["provenance"]) == USER
        assert raw["notes"] == []


# The event loop.


@pytest.mark.parametrize("name", ASYNCHRONOUS)
async def test_the_event_loop_is_free_meanwhile(name: str) -> None:
    loop, threads = asyncio.get_running_loop(), []

    def waits(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        threads.append(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, True), loop).result(30))
        return scores

    made = llm(max_new_tokens=3, generate_kwargs={"logits_processor": [waits]})
    await FORMS[name](made)
    assert threads == [True] * 3


@pytest.mark.parametrize("name", ASYNCHRONOUS)
async def test_twenty_at_once_answer_as_one_by_one(name: str) -> None:
    asked = [f"{number} {QUESTION}" for number in range(20)]

    async def ask(made: PromptCacheLLM, question: str) -> str:
        given = [ChatMessage(question)] if "chat" in name else question
        answer = await getattr(made, name)(given)
        if "stream" in name:
            *_, answer = [piece async for piece in answer]
        return text_of(answer)

    together = llm()
    answers = await asyncio.gather(*(ask(together, question) for question in asked))
    alone = llm()
    assert answers == [alone.complete(question).text for question in asked]
    assert len(set(answers)) > 1


# Readers that leave.


@pytest.fixture
def arenas(monkeypatch: pytest.MonkeyPatch) -> list[weakref.ref[Any]]:
    """The arenas that requests were given, as far as they are still there."""
    from promptcache import pipeline

    made: list[weakref.ref[Any]] = []
    new = pipeline.new_arena

    def noted(*args: Any, **kwargs: Any) -> Any:
        arena = new(*args, **kwargs)
        made.append(weakref.ref(arena))
        return arena

    monkeypatch.setattr(pipeline, "new_arena", noted)
    return made


def keeping() -> CallbackManager:
    """Callbacks that keep every event, and with it the exception of a reader that leaves."""
    return CallbackManager([LlamaDebugHandler(print_trace_on_end=False)])


@pytest.mark.parametrize("name", ["stream_complete", "stream_chat"])
@pytest.mark.parametrize("close", [True, False])
def test_a_stream_whose_reader_leaves_stops_and_frees_its_arena(
    name: str, close: bool, arenas: list[weakref.ref[Any]]
) -> None:
    made = llm(max_new_tokens=500, callback_manager=keeping())
    with made.engine.recording() as replies:
        stream = getattr(made, name)(CHAT if "chat" in name else QUESTION)
        next(stream)
        assert arenas[0]() is not None
        if close:
            stream.close()
        del stream
    assert arenas[0]() is None
    assert len(replies[0].token_ids) < 5


async def stopped(
    made: PromptCacheLLM, arenas: list[weakref.ref[Any]], started: Callable[[], bool]
) -> None:
    """Wait for the end of a generation that would go on for long."""
    for _ in range(2000):
        if started() and all(arena() is None for arena in arenas):
            return
        await asyncio.sleep(0.005)
    pytest.fail("the generation goes on")


@pytest.mark.parametrize("name", ["astream_complete", "astream_chat"])
@pytest.mark.parametrize("leave", ["break", "aclose", "cancel"])
async def test_an_asynchronous_stream_whose_reader_leaves_stops_and_frees_its_arena(
    name: str, leave: str, arenas: list[weakref.ref[Any]]
) -> None:
    made = llm(max_new_tokens=900, callback_manager=keeping())
    first = asyncio.Event()

    async def read() -> None:
        stream = await getattr(made, name)(CHAT if "chat" in name else QUESTION)
        async for _ in stream:
            first.set()
            if leave != "cancel":
                break
        if leave == "aclose":
            await stream.aclose()

    with made.engine.recording() as replies:
        reading = asyncio.create_task(read())
        await first.wait()
        if leave == "cancel":
            reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading
        await stopped(made, arenas, lambda: True)
    assert len(replies[0].token_ids) < 500


@pytest.mark.parametrize("name", ["acomplete", "achat"])
async def test_a_request_that_is_cancelled_stops_and_frees_its_arena(
    name: str, arenas: list[weakref.ref[Any]]
) -> None:
    made = llm(max_new_tokens=900, callback_manager=keeping())
    with made.engine.recording() as replies:
        asking = asyncio.create_task(FORMS[name](made))
        while not len(replies):
            await asyncio.sleep(0.001)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await stopped(made, arenas, lambda: True)
    assert len(replies[0].token_ids) < 500


def test_a_stream_that_nobody_reads_asks_nothing() -> None:
    made = llm()
    with made.engine.recording() as replies:
        made.stream_chat(CHAT)
        made.stream_complete(QUESTION)
    assert len(replies) == 0


# Events.


class Ear(BaseCallbackHandler):
    """Hears callback events, by type: how many began, and how they ended."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.starts: list[CBEventType] = []
        self.ends: list[tuple[CBEventType, dict[str, Any]]] = []

    def on_event_start(self, event_type: CBEventType, payload: Any = None, **_: Any) -> str:
        self.starts.append(event_type)
        return ""

    def on_event_end(self, event_type: CBEventType, payload: Any = None, **_: Any) -> None:
        self.ends.append((event_type, payload or {}))

    def start_trace(self, trace_id: str | None = None) -> None: ...

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None: ...


class Watcher(BaseEventHandler):
    """Sees instrumentation events."""

    seen: list[str] = []  # noqa: RUF012

    def handle(self, event: BaseEvent, **_: Any) -> None:
        self.seen.append(type(event).__name__)


@pytest.fixture
def events() -> Iterator[list[str]]:
    watcher = Watcher(seen=[])
    dispatcher = get_dispatcher()
    dispatcher.add_event_handler(watcher)
    yield watcher.seen
    dispatcher.event_handlers.remove(watcher)


async def drained(stream: AsyncIterator[str]) -> str:
    return "".join([piece async for piece in stream])


@pytest.mark.parametrize("name", FORMS)
async def test_every_request_is_one_event_of_each_kind(name: str, events: list[str]) -> None:
    ear = Ear()
    last = (await FORMS[name](llm(callback_manager=CallbackManager([ear]))))[-1]
    kind = "LLMChat" if "chat" in name else "LLMCompletion"
    progress = [f"{kind}InProgressEvent"] * (LENGTH + 1 if "stream" in name else 0)
    assert [e for e in events if e.startswith("LLM")] == [
        f"{kind}StartEvent",
        *progress,
        f"{kind}EndEvent",
    ]
    assert ear.starts == [CBEventType.LLM]
    [(kind_ended, payload)] = ear.ends
    assert kind_ended is CBEventType.LLM
    assert last in payload.values()


@pytest.mark.parametrize("chats", [True, False])
async def test_every_prediction_is_one_event_of_each_kind(chats: bool, events: list[str]) -> None:
    ear = Ear()
    made = llm(callback_manager=CallbackManager([ear]), is_chat_model=chats)
    kind = "LLMChat" if chats else "LLMCompletion"
    given = {"context_str": DOCUMENT, "query_str": QUESTION}
    answers = []

    async def stream() -> str:
        return await drained(await made.astream(PROMPT, **given))

    for ask in (
        lambda: asyncio.to_thread(made.predict, PROMPT, **given),
        lambda: made.apredict(PROMPT, **given),
        lambda: asyncio.to_thread(lambda: "".join(made.stream(PROMPT, **given))),
        stream,
    ):
        answers.append(await ask())
        seen = [e for e in events if e.startswith("LLM") and "InProgress" not in e]
        own = ["LLMPredictStartEvent", f"{kind}StartEvent", f"{kind}EndEvent"]
        assert [e for e in seen if e != "LLMPredictEndEvent"] == own
        assert ear.starts == [CBEventType.TEMPLATING, CBEventType.LLM]
        assert [event for event, _ in ear.ends] == ear.starts
        events.clear(), ear.starts.clear(), ear.ends.clear()
    assert len(set(answers)) == 1


@pytest.mark.parametrize("name", FORMS)
async def test_a_request_that_fails_ends_its_event_with_the_error(name: str) -> None:
    ear = Ear()
    made = llm(callback_manager=CallbackManager([ear]), generate_kwargs={"streamer": Fails()})
    with pytest.raises(ZeroDivisionError):
        await FORMS[name](made)
    assert ear.starts.count(CBEventType.LLM) == 1
    [payload] = [payload for event, payload in ear.ends if event is CBEventType.LLM]
    assert [type(value) for value in payload.values()] == [ZeroDivisionError]


class Fails:
    """A streamer that is told the prompt and then each token, and fails at the third of these."""

    def __init__(self) -> None:
        self.tokens = -1

    def put(self, value: object) -> None:
        self.tokens += 1
        if self.tokens == 3:
            raise ZeroDivisionError

    def end(self) -> None: ...


def test_a_stream_that_fails_midway_has_given_what_came_before_and_frees_its_arena(
    arenas: list[weakref.ref[Any]],
) -> None:
    made = llm()
    stream = made.stream_complete("Hi", streamer=Fails())
    pieces = [next(stream).delta, next(stream).delta]
    with pytest.raises(ZeroDivisionError):
        next(stream)
    del stream
    gc.collect()
    assert all(pieces)
    assert arenas and not any(arena() for arena in arenas)
    assert made.complete("Hi").text == llm().complete("Hi").text


@pytest.mark.parametrize("name", FORMS)
async def test_llama_indexs_counter_counts_what_the_usage_says(name: str) -> None:
    counter = TokenCountingHandler(tokenizer=lambda text: pytest.fail("estimated"))
    last = (await FORMS[name](llm(callback_manager=CallbackManager([counter]))))[-1]
    usage = last.raw["usage"]
    assert counter.prompt_llm_token_count == usage["prompt_tokens"]
    assert counter.completion_llm_token_count == usage["completion_tokens"]


def test_usage_counts_what_was_reused_and_what_was_kept() -> None:
    made = llm()
    made.cache_documents([DOCUMENT], progress=False)
    messages = [ChatMessage(f"{DOCUMENT}\n\n{QUESTION}")]
    cold, warm = (made.chat(messages).raw["usage"]["prompt_tokens_details"] for _ in range(2))
    count = made.engine.count_tokens(DOCUMENT)
    assert (cold["cached_tokens"], cold["cache_creation_tokens"] >= count) == (0, True)
    assert (warm["cached_tokens"] >= count, warm["cache_creation_tokens"]) == (True, 0)


def test_a_recording_has_the_replies_of_all_that_is_asked_meanwhile() -> None:
    made = llm()
    with made.engine.recording() as replies:
        answers = [made.complete("One").text, text_of(made.chat(CHAT))]
        answers.append(made.predict(PROMPT, context_str=DOCUMENT, query_str="Why?"))
    made.complete("Two")
    assert [reply.text for reply in replies] == answers


# What `complete` and `chat` make of a prompt.


def asked_of(response: ChatResponse | CompletionResponse) -> str:
    """The prompt, as far as its account shows it."""
    return "".join(span["text"] for span in response.raw["provenance"])


def test_a_text_is_a_users_message_to_a_model_that_chats() -> None:
    assert asked_of(llm().complete("Hi")) == "<s><|user|>Hi</s><|assistant|>"
    prompted = llm(system_prompt="Be brief.")
    expected = "<s><|system|>Be brief.</s><|user|>Hi</s><|assistant|>"
    assert asked_of(prompted.complete("Hi")) == expected
    assert list(prompted.stream_complete("Hi"))[-1].text == plain(expected)
    wrapped = llm(query_wrapper_prompt="Q: {query_str}", system_prompt="Be brief.")
    assert asked_of(wrapped.complete("Hi")) == expected.replace("Hi", "Q: Hi")


@pytest.mark.parametrize(
    ("settings", "call", "text"),
    [
        ({}, {"formatted": True}, "Hi"),
        ({"is_chat_model": False}, {}, "Hi"),
        ({"completion_to_prompt": lambda prompt: f"Q: {prompt}\nA:"}, {}, "Q: Hi\nA:"),
        ({"completion_to_prompt": lambda prompt: "x"}, {"formatted": True}, "Hi"),
        ({"is_chat_model": False, "system_prompt": "Be brief."}, {}, "Be brief.\n\nHi"),
        ({"is_chat_model": False, "query_wrapper_prompt": "Q: {query_str}"}, {}, "Q: Hi"),
        ({"messages_to_prompt": lambda m: f"Q: {m[0].content}\nA:"}, {}, "Q: Hi\nA:"),
        ({"messages_to_prompt": lambda m: "x"}, {"formatted": True}, "Hi"),
    ],
)
async def test_a_text_that_is_formatted_is_continued_as_it_is(
    settings: dict[str, Any], call: dict[str, Any], text: str
) -> None:
    made = llm(tiny_engine(conversations=False), **settings)
    responses = [
        made.complete("Hi", **call),
        await made.acomplete("Hi", **call),
        list(made.stream_complete("Hi", **call))[-1],
        [piece async for piece in await made.astream_complete("Hi", **call)][-1],
    ]
    for response in responses:
        assert asked_of(response) == text
        assert response.text == plain(text)


def test_messages_become_text_by_the_users_function_wherever_they_come_from() -> None:
    def to_text(messages: Sequence[ChatMessage]) -> str:
        return "".join(f"[{m.role.value}] {m.content}\n" for m in messages)

    made = llm(messages_to_prompt=to_text, system_prompt="Be brief.")
    with made.engine.recording() as replies:
        made.chat(CHAT)
        made.complete("Hi")
        made.predict(PROMPT, context_str=DOCUMENT, query_str="Why?")
    assert ["".join(span.text for span in reply.trace) for reply in replies] == [
        f"[user] {QUESTION}\n",
        "[system] Be brief.\n[user] Hi\n",
        f"[system] Be brief.\n[user] Use this.\n\n{DOCUMENT}\n\nQuestion: Why?\n",
    ]


def test_documents_are_reused_behind_what_the_users_function_writes_in_front() -> None:
    made = llm(messages_to_prompt=lambda m: f"Q: {m[0].content}\nA:", max_new_tokens=1)
    assert made.cache_documents([DOCUMENT], PROMPT, progress=False).encoded == 1
    with made.engine.recording() as replies:
        made.predict(PROMPT, context_str=DOCUMENT, query_str="Why?")
    assert replies[0].usage.encoded == 0
    assert replies[0].usage.reused_tokens >= made.engine.count_tokens(DOCUMENT)


def test_a_model_without_a_chat_template_is_given_messages_as_llama_index_writes_them() -> None:
    made = llm(tiny_engine(None))
    assert asked_of(made.chat(CHAT)) == f"user: {QUESTION}\nassistant: "
    assert asked_of(made.complete("Hi")) == "Hi"
    assert asked_of(llm(tiny_engine(None), is_chat_model=True).complete("Hi")) == (
        "user: Hi\nassistant: "
    )


@pytest.mark.parametrize("chats", [True, False])
def test_predictions_without_reuse_are_those_of_transformers(chats: bool) -> None:
    made = llm(reuse=NoReuse(), is_chat_model=chats, system_prompt="Be brief.")
    answer = made.predict(PROMPT, context_str=DOCUMENT, query_str=QUESTION)
    text = PROMPT.format(context_str=DOCUMENT, query_str=QUESTION)
    chat = f"<s><|system|>Be brief.</s><|user|>{text}</s><|assistant|>"
    assert answer == plain(chat if chats else f"Be brief.\n\n{text}")


def test_a_template_of_messages_keeps_its_roles() -> None:
    roles = [("system", "Know {context_str}"), ("assistant", "Yes?"), ("user", "{query_str}")]
    template = ChatPromptTemplate([ChatMessage(text, role=role) for role, text in roles])
    made = llm()
    with made.engine.recording() as replies:
        made.predict(template, context_str=DOCUMENT, query_str="Hi")
    assert "".join(span.text for span in replies[0].trace) == (
        f"<s><|system|>Know {DOCUMENT}</s><|assistant|>Yes?</s><|user|>Hi</s><|assistant|>"
    )


# Errors.


@pytest.mark.parametrize(
    ("messages", "options", "error", "said"),
    [
        ([], {}, PromptError, "there are no messages"),
        ([ChatMessage("word " * 300)], {}, PromptError, "the model's window holds 1024"),
        ([ChatMessage("a \ud800")], {}, PromptError, "message 1 holds a lone surrogate"),
        (CHAT, {"num_beams": 4}, OptionError, "num_beams=4 asks for beam search"),
        (CHAT, {"n_tokens": 4}, OptionError, "unknown generation option 'n_tokens'"),
        (CHAT, {"temperature": "hot"}, OptionError, "temperature='hot' is not a number above 0"),
        (CHAT, {"reuse": "all"}, OptionError, "reuse='all' is not a reuse policy"),
        (CHAT, {"max_tokens": 3, "max_new_tokens": 3}, OptionError, "are the same parameter"),
    ],
)
async def test_what_cannot_be_served_is_one_sentence_and_loses_nothing(
    messages: list[ChatMessage], options: dict[str, Any], error: type[Exception], said: str
) -> None:
    made = llm()
    made.cache_documents([DOCUMENT], progress=False)
    asked = [ChatMessage(f"{DOCUMENT}\n\n{QUESTION}")]
    expected = text_of(made.chat(asked))
    kept = set(made.engine.store.keys())
    with pytest.raises(error, match=said) as raised:
        made.chat(messages, **options)
    assert "\n" not in str(raised.value)
    with pytest.raises(error, match=said):
        await made.achat(messages, **options)
    with pytest.raises(error, match=said):
        list(made.stream_chat(messages, **options))
    with pytest.raises(error, match=said):
        [piece async for piece in await made.astream_chat(messages, **options)]
    assert kept.issubset(made.engine.store.keys())
    again = made.chat(asked)
    assert text_of(again) == expected
    assert again.raw["usage"]["prompt_tokens_details"]["cache_creation_tokens"] == 0


def test_an_empty_text_is_refused() -> None:
    for call in ({}, {"formatted": True}):
        with pytest.raises(PromptCacheError, match="nothing to generate from"):
            llm().complete("", **call)


def test_answers_are_the_assistants() -> None:
    assert llm().chat(CHAT).message.role is MessageRole.ASSISTANT
    assert {r.message.role for r in llm().stream_chat(CHAT)} == {MessageRole.ASSISTANT}


NO_SYSTEM = (
    "<s>{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "<|{{ m.role }}|>{{ m.content }}</s>{% endfor %}<|assistant|>"
)


def test_where_a_chat_template_takes_no_system_message_its_text_is_the_users() -> None:
    made = llm(tiny_engine(NO_SYSTEM))
    assert made.metadata.system_role == MessageRole.USER
    talk = [ChatMessage("Be brief.", role="system"), ChatMessage("Well?")]
    with made.engine.recording() as replies:
        made.chat(talk)
        for _ in range(2):
            made.predict(CHAT_TEXT_QA_PROMPT, context_str="A page of a book.", query_str="Who?")
    chat, first, second = ("".join(s.text for s in reply.trace) for reply in replies)
    assert chat == "<s><|user|>Be brief.\n\nWell?</s><|assistant|>"
    assert first == second and first.count("<|user|>") == 1 and "A page of a book." in first
    assert replies[2].usage.encoded == 0
    assert llm().metadata.system_role == MessageRole.SYSTEM
