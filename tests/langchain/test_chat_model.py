"""ChatPromptCache beyond LangChain's own suites: parameters, usage, streams, batches, errors."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage, SystemMessage
from langchain_core.messages.content import create_text_block
from langchain_core.messages.tool import ToolCall
from langchain_core.runnables import ConfigurableField

from langchain_promptcache import ChatPromptCache
from langchain_promptcache.pml_template import CARRIED
from langchain_promptcache.settings import OF_GENERATION, OF_LOADING
from promptcache import Exact, MemoryStore, Modular, NoReuse, PromptCache, PromptCacheError
from promptcache.errors import ModelError, OptionError, PromptError, TemplateError
from support.rag import DOCUMENTS, PROMPT, tiny_engine
from support.words import TEMPLATE

PROMPTS = ["Hello.", "How are you?", "What is a lighthouse?", "And a mill?"]
TEXT = DOCUMENTS[0].page_content
SHORT_TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture
def llm(engine: PromptCache) -> ChatPromptCache:
    return ChatPromptCache(engine=engine, max_tokens=16, temperature=0)


def test_a_model_folder_is_loaded_with_the_settings_given(
    engine: PromptCache, tmp_path: Path
) -> None:
    engine.model.save_pretrained(tmp_path)
    engine.tokenizer.save_pretrained(tmp_path)
    store = MemoryStore(10_000_000)
    llm = ChatPromptCache(model_id=tmp_path, dtype="float32", store=store, namespace="a")
    assert llm.engine.store is store
    assert llm.model == llm.engine.name == str(tmp_path)
    again = ChatPromptCache.from_model_id(
        str(tmp_path), pipeline_kwargs={"max_new_tokens": 3, "temperature": 0}
    )
    assert again.invoke("Hello").usage_metadata["output_tokens"] == 3


def test_copies_share_the_engine(llm: ChatPromptCache, engine: PromptCache) -> None:
    assert llm.bind(stop=["a"]).bound.engine is engine
    assert llm.model_copy(update={"temperature": 1.0}).engine is engine
    choice = llm.configurable_fields(max_tokens=ConfigurableField("length"))
    chosen = {"configurable": {"length": 2}}
    assert choice.invoke("Hello", config=chosen).usage_metadata["output_tokens"] == 2
    assert len(list(choice.stream("Hello", config=chosen))) > 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_token": 3}, "unknown parameter 'max_token'; did you mean 'max_tokens'?"),
        ({"num_beams": 2}, "unknown parameter 'num_beams'"),
        ({"max_tokens": 3, "max_new_tokens": 3}, "max_tokens and max_new_tokens are the same"),
        ({"temperature": "hot"}, "temperature='hot' is not a number above 0"),
        ({"engine": "pocket"}, "engine='pocket' is not a PromptCache"),
        ({"reuse": "all"}, "reuse='all' is not a reuse policy; expected for example Modular()"),
        ({"stop": 5}, "stop=5 is not a string or a list of non-empty strings"),
        ({"do_sample": True}, "unknown parameter 'do_sample'; give generation_kwargs={'do_sample'"),
        ({"cache_dir": "/"}, "unknown parameter 'cache_dir'; give model_kwargs={'cache_dir'"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        ChatPromptCache(**settings)


@pytest.mark.parametrize("settings", [{"dtype": "float32"}, {"namespace": "a"}, {"model": "b"}])
def test_what_an_engine_was_loaded_with_cannot_be_given_again(
    settings: dict[str, Any], engine: PromptCache
) -> None:
    with pytest.raises(OptionError, match=r"loaded already|give one of the two"):
        ChatPromptCache(engine=engine, **settings)


def test_parameters_of_hosted_models_are_taken_and_said_to_have_no_effect(
    engine: PromptCache, caplog: pytest.LogCaptureFixture
) -> None:
    ChatPromptCache(engine=engine, timeout=60, api_key="secret")
    assert "timeout has no effect" in caplog.text
    assert "secret" not in caplog.text


def test_usage_counts_what_was_read_and_what_was_kept(engine: PromptCache) -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=4)
    llm.cache_documents(DOCUMENTS, progress=False)
    prompt = PROMPT.invoke({"context": TEXT, "input": "?"})
    cold, warm = llm.invoke(prompt).usage_metadata, llm.invoke(prompt).usage_metadata
    count = llm.get_num_tokens(TEXT)
    assert cold["input_token_details"]["cache_read"] == 0
    assert cold["input_token_details"]["cache_creation"] >= count
    assert warm["input_token_details"]["cache_creation"] == 0
    assert warm["input_token_details"]["cache_read"] >= count
    assert warm["input_tokens"] == cold["input_tokens"]
    assert warm["total_tokens"] == warm["input_tokens"] + warm["output_tokens"]


def test_the_metadata_say_how_an_answer_came_about() -> None:
    metadata = ChatPromptCache(engine=tiny_engine(), max_tokens=1).invoke("Hello").response_metadata
    assert metadata["model_name"] == "tiny"
    assert metadata["finish_reason"] == "length"
    assert metadata["policy"] == "Modular()"
    assert 0 < metadata["ttft"] < 60
    assert sum(metadata["timings"].values()) == pytest.approx(metadata["ttft"])
    assert [span["provenance"] for span in metadata["provenance"]] == ["new"] * 3
    assert metadata["notes"] == []


def test_a_stream_gives_the_answer_in_pieces_and_its_usage_once(llm: ChatPromptCache) -> None:
    llm.invoke("Hello")  # kept, so that both requests below find it
    chunks = list(llm.stream("Hello"))
    whole = llm.invoke("Hello")
    assert len(chunks) > 3
    assert "".join(chunk.text for chunk in chunks) == whole.text
    assert [bool(chunk.usage_metadata) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert chunks[-1].usage_metadata == whole.usage_metadata


async def test_asynchronous_calls_answer_as_others_do(llm: ChatPromptCache) -> None:
    whole = llm.invoke("Hello")
    message = await llm.ainvoke("Hello")
    assert (message.text, message.usage_metadata) == (whole.text, whole.usage_metadata)
    pieces = [chunk.text async for chunk in llm.astream("Hello")]
    assert "".join(pieces) == whole.text


async def test_the_event_loop_is_free_while_an_answer_is_made(llm: ChatPromptCache) -> None:
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    async for chunk in llm.astream("Hello"):
        assert isinstance(chunk.text, str)
    in_stream = turns
    await llm.ainvoke("Hello")
    counting.cancel()
    assert in_stream > 20
    assert turns - in_stream > 20


async def test_batches_answer_as_one_by_one(llm: ChatPromptCache) -> None:
    expected = [llm.invoke(prompt).text for prompt in PROMPTS]
    assert [message.text for message in llm.batch(PROMPTS)] == expected
    assert [message.text for message in await llm.abatch(PROMPTS)] == expected


def test_a_seed_makes_a_sampled_answer_repeatable(engine: PromptCache) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=12, temperature=1.5, top_k=50)
    first = llm.invoke("Hello", seed=3).text
    assert llm.invoke("Hello", seed=3).text == first
    assert llm.invoke("Hello", seed=4).text != first


def test_temperature_zero_is_greedy_whatever_else_is_set(engine: PromptCache) -> None:
    llm = ChatPromptCache(engine=engine, max_tokens=12, temperature=0, top_p=0.5, top_k=3)
    assert llm.invoke("Hello").text == llm.bind(top_p=None, top_k=None).invoke("Hello").text


def test_an_answer_ends_before_a_stop_string(llm: ChatPromptCache) -> None:
    text = llm.invoke("Hello").text
    stop = text[5]
    expected = text[: text.index(stop)]
    assert llm.invoke("Hello", stop=[stop]).text == expected
    assert llm.model_copy(update={"stop": stop}).invoke("Hello").text == expected
    assert "".join(chunk.text for chunk in llm.stream("Hello", stop=[stop])) == expected


def test_a_call_chooses_its_policy(llm: ChatPromptCache) -> None:
    for policy in (NoReuse(), Exact(), Modular()):
        assert llm.invoke("Hello", reuse=policy).response_metadata["policy"] == str(policy)


def test_tokens_are_counted_with_the_models_own_tokenizer(llm: ChatPromptCache) -> None:
    assert llm.get_num_tokens("Hello </s>") == len(b"Hello </s>")
    assert len(llm.get_token_ids(TEXT)) == llm.engine.count_tokens(TEXT)
    counter = llm.model_copy(update={"custom_get_token_ids": lambda text: [1]})
    assert counter.get_num_tokens("Hello") == 1


def test_settings_that_change_answers_are_told_to_caches_and_traces(llm: ChatPromptCache) -> None:
    params = llm.asdict()
    assert params["_type"] == "promptcache-chat"
    assert params["model"] == "tiny"
    assert params["reuse"] == "Modular()"
    other = llm.model_copy(update={"temperature": 0.5})
    assert other.asdict() != params
    ls_params = llm.model_copy(update={"stop": "x"})._get_ls_params()
    assert ls_params["ls_provider"] == "promptcache"
    assert ls_params["ls_stop"] == ["x"]


CHANGES_NO_ANSWER = {"store", "conversations", "graphs", "continuous_batching", "max_concurrent"}
LOADED_OTHERWISE = {
    "context": "expected",
    "revision": "other",
    "device": "cpu",
    "dtype": "bfloat16",
    "model_kwargs": {"rms_norm_eps": 0.5},
    "namespace": "a",
    "compression": "int8",
    "chat_template": SHORT_TEMPLATE,
    "chat_template_kwargs": {"enable_thinking": False},
}
GENERATED_OTHERWISE = {
    "max_tokens": 3,
    "temperature": 0.5,
    "top_p": 0.5,
    "top_k": 3,
    "repetition_penalty": 2.0,
    "seed": 1,
    "stop": ["e"],
    "reuse": NoReuse(),
    "generation_kwargs": {"min_p": 0.5},
}


def test_a_setting_of_the_engine_that_this_device_has_not_is_refused_by_the_engine() -> None:
    with pytest.raises(OptionError, match="graphs=True cannot be"):
        ChatPromptCache(model="pocket", device="cpu", graphs=True)


@pytest.fixture(scope="module")
def folder(engine: PromptCache, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    engine.model.save_pretrained(path)
    engine.tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def llm_cache() -> Iterator[InMemoryCache]:
    cache = InMemoryCache()
    set_llm_cache(cache)
    yield cache
    set_llm_cache(None)


def answers_kept(cache: InMemoryCache, *models: ChatPromptCache) -> int:
    """How many answers LangChain's cache holds once each model was asked the same."""
    for llm in models:
        llm.invoke("Hello")
    return len(cache._cache)


def test_every_setting_is_tried_on_langchains_cache() -> None:
    assert LOADED_OTHERWISE.keys() == set(OF_LOADING) - CHANGES_NO_ANSWER
    assert GENERATED_OTHERWISE.keys() == {*OF_GENERATION, "generation_kwargs"}


@pytest.mark.parametrize("name", LOADED_OTHERWISE)
def test_langchains_cache_tells_engines_apart_by_every_setting_they_are_loaded_with(
    name: str, folder: Path, llm_cache: InMemoryCache
) -> None:
    one, same = (ChatPromptCache(model=folder, max_tokens=2) for _ in range(2))
    other = ChatPromptCache(model=folder, max_tokens=2, **{name: LOADED_OTHERWISE[name]})
    assert answers_kept(llm_cache, one, same, other) == 2


@pytest.mark.parametrize("name", GENERATED_OTHERWISE)
def test_langchains_cache_tells_models_apart_by_every_setting_of_their_answers(
    name: str, engine: PromptCache, llm_cache: InMemoryCache
) -> None:
    one = ChatPromptCache(engine=engine, max_tokens=2)
    other = one.model_copy(update={name: GENERATED_OTHERWISE[name]})
    assert answers_kept(llm_cache, one, one.model_copy(), other) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"template": SHORT_TEMPLATE},
        {"chat_template": SHORT_TEMPLATE},
        {"chat_template_kwargs": {"enable_thinking": False}},
        {"namespace": "a"},
        {"reuse": Exact()},
        {"context": "bare"},
    ],
)
def test_langchains_cache_tells_engines_of_one_name_apart(
    options: dict[str, Any], engine: PromptCache, llm_cache: InMemoryCache
) -> None:
    one = ChatPromptCache(engine=engine, max_tokens=2)
    other = ChatPromptCache(engine=tiny_engine(**options), max_tokens=2)
    same = ChatPromptCache(engine=tiny_engine(), max_tokens=2)
    assert answers_kept(llm_cache, one, other, same) == 2


def test_what_models_are_loaded_with_is_not_shown_where_it_may_be_secret(folder: Path) -> None:
    llm = ChatPromptCache(model=folder, model_kwargs={"token": "secret"})
    assert "secret" not in str(llm.asdict())


def test_tools_of_a_call_reach_the_chat_template() -> None:
    template = "{% for t in tools or [] %}{{ t.name }};{% endfor %}" + TEMPLATE
    llm = ChatPromptCache(engine=tiny_engine(template), max_tokens=1)
    spans = llm.invoke("Hello", tools=[{"name": "look"}]).response_metadata["provenance"]
    assert "".join(span["text"] for span in spans).startswith("look;")


@pytest.mark.parametrize(
    "block",
    [
        {"type": "text", "text": TEXT, "cache_control": {"type": "ephemeral"}},
        create_text_block(TEXT, cache_control={"type": "ephemeral"}),
    ],
)
def test_a_block_with_cache_control_is_a_module(block: Any) -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=1)
    message = HumanMessage([block, "What is it?"])
    llm.invoke([message])
    spans = llm.invoke([message]).response_metadata["provenance"]
    module = next(span for span in spans if span["text"] == TEXT)
    assert module["provenance"] == "exact"


def test_a_document_that_was_expected_and_is_not_there_is_noted_with_the_reason() -> None:
    llm = ChatPromptCache(engine=tiny_engine(), max_tokens=1)
    llm.cache_documents(DOCUMENTS, progress=False)
    for expected in ([TEXT], DOCUMENTS[:1]):
        message = llm.invoke(TEXT[:50], expected=expected)
        (note,) = message.response_metadata["notes"]
        assert "cut" in note


def test_roles_are_the_chat_templates_own(llm: ChatPromptCache) -> None:
    messages = [
        SystemMessage("a"), ChatMessage("b", role="human"), AIMessage("c"),
        ChatMessage("d", role="user"),
    ]  # fmt: skip
    spans = llm.invoke(messages).response_metadata["provenance"]
    assert "".join(span["text"] for span in spans) == (
        "<s><|system|>a</s><|user|>b</s><|assistant|>c</s><|user|>d</s><|assistant|>"
    )


def test_calls_that_the_chat_template_cannot_render_are_refused(llm: ChatPromptCache) -> None:
    asked = AIMessage("", tool_calls=[ToolCall(name="look", args={}, id="1")])
    with pytest.raises(TemplateError, match="message 2 calls tools, which this model's chat"):
        llm.invoke([HumanMessage("a"), asked])


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "there are no messages"),
        ([HumanMessage("word " * 300)], "the model's window holds 1024"),
        (
            [HumanMessage([{"type": "image", "url": "a"}])],
            "message 1 holds a block of type 'image'",
        ),
        ([HumanMessage("a \ud800")], "message 1 holds a lone surrogate"),
    ],
)
async def test_a_prompt_that_cannot_be_run_is_one_sentence(
    llm: ChatPromptCache, messages: list[Any], said: str
) -> None:
    with pytest.raises(PromptError, match=said) as invoked:
        llm.invoke(messages)
    assert "\n" not in str(invoked.value)
    with pytest.raises(PromptError, match=said):
        list(llm.stream(messages))
    with pytest.raises(PromptError, match=said):
        await llm.ainvoke(messages)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_beams": 4}, "num_beams=4 asks for beam search"),
        ({"n_tokens": 4}, "unknown generation option 'n_tokens'"),
        ({"model_id": "other"}, "model='other' was asked for in a call, but 'tiny' is loaded"),
        ({"reuse": "all"}, "reuse='all' is not a reuse policy"),
        ({"max_tokens": 0}, "max_new_tokens=0 is not a positive number"),
    ],
)
def test_a_call_that_cannot_be_served_is_one_sentence(
    llm: ChatPromptCache, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=said) as raised:
        llm.invoke("Hello", **options)
    assert "\n" not in str(raised.value)


def test_a_model_that_cannot_be_loaded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder at") as raised:
        ChatPromptCache(model=str(tmp_path / "nothing"))
    assert "\n" not in str(raised.value)
    with pytest.raises(ModelError, match="it has no config"):
        ChatPromptCache(model=tmp_path)


@pytest.mark.parametrize("documents", ["a text", DOCUMENTS[0], {"a": "text"}, 3, [3], [b"bytes"]])
def test_what_is_not_a_list_of_documents_is_refused(llm: ChatPromptCache, documents: Any) -> None:
    with pytest.raises(PromptError, match=r"expected a (loader|Document)"):
        llm.cache_documents(documents, progress=False)


def test_every_error_of_the_engine_is_of_one_kind(llm: BaseChatModel) -> None:
    with pytest.raises(PromptCacheError):
        llm.invoke([])


@pytest.mark.parametrize("carried", [None, "x", [], {"schema": "<schema name='a'/>"}, "documents"])
def test_what_a_message_carries_and_is_no_pml_changes_no_answer(carried: object) -> None:
    if carried == "documents":  # no mapping, though `dict` takes other sequences
        carried = {"schema": "<schema name='a'/>", "prompt": "<prompt schema='a'/>"}
        carried["documents"] = "abc"
    llm = ChatPromptCache(engine=tiny_engine(conversations=False), max_tokens=4, temperature=0)
    message = HumanMessage("Hello.", additional_kwargs={CARRIED: carried})
    assert llm.invoke([message]).content == llm.invoke("Hello.").content
