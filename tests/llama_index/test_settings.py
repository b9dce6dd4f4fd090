"""What PromptCacheLLM is set with: names that users of HuggingFaceLLM know, and their values."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, LlamaDebugHandler
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse
from llama_index.core.llms.utils import resolve_llm
from llama_index.core.prompts import PromptTemplate
from llama_index.core.rate_limiter import BaseRateLimiter
from llama_index.core.types import BaseOutputParser, PydanticProgramMode

from llama_index_promptcache import PromptCacheLLM
from llama_index_promptcache.fields import ALIASES
from llama_index_promptcache.llm import UNLIMITED
from llama_index_promptcache.loading import OF_LOADING
from promptcache import Exact, MemoryStore, NoReuse, PromptCache, ReusePolicy
from promptcache.errors import ModelError, OptionError, PromptCacheError
from support.llama import unspeakable
from support.rag import tiny_engine
from support.words import TEMPLATE, byte_tokenizer
from support.zoo import model

LETTERS = {"suppress_tokens": list(unspeakable())}
SHORT_TEMPLATE = "{% for m in messages %}{{ m.content }}\n{% endfor %}"
OF_HUGGING_FACE_LLM = (
    "context_window", "max_new_tokens", "query_wrapper_prompt", "tokenizer_name", "model_name",
    "model", "tokenizer", "device_map", "stopping_ids", "tokenizer_kwargs",
    "tokenizer_outputs_to_remove", "model_kwargs", "generate_kwargs", "is_chat_model",
    "callback_manager", "system_prompt", "messages_to_prompt", "completion_to_prompt",
    "pydantic_program_mode", "output_parser",
)  # fmt: skip
"""The arguments of its `__init__`, in its order."""


@pytest.fixture(scope="module")
def engine() -> PromptCache:
    return tiny_engine()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with its tokenizer, as `save_pretrained` writes them."""
    path = tmp_path_factory.mktemp("model")
    model("llama").save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    byte_tokenizer(SHORT_TEMPLATE).save_pretrained(path)
    return path


def llm(engine: PromptCache, **settings: Any) -> PromptCacheLLM:
    greedy = {"max_new_tokens": 6, "temperature": 0, "generate_kwargs": LETTERS}
    return PromptCacheLLM(engine=engine, **{**greedy, **settings})


# Names.


def test_every_name_of_hugging_face_llm_is_taken() -> None:
    known = {*PromptCacheLLM.model_fields, *OF_LOADING}
    assert known.issuperset(OF_HUGGING_FACE_LLM)


@pytest.mark.parametrize("name", [*OF_HUGGING_FACE_LLM, "rate_limiter"])
def test_none_is_as_good_as_leaving_a_name_out(name: str, engine: PromptCache) -> None:
    set_to_none = llm(engine, **{name: None})
    assert set_to_none.complete("Hi", **GREEDY).text == llm(engine).complete("Hi", **GREEDY).text


GREEDY: dict[str, Any] = {"max_tokens": 6, "temperature": 0, **LETTERS}


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_token": 3}, "unknown parameter 'max_token'; did you mean 'max_tokens'"),
        ({"modle": "x"}, "unknown parameter 'modle'; did you mean 'model'"),
        ({"do_sample": True}, "give generate_kwargs={'do_sample': ...}"),
        ({"cache_dir": "/"}, "give model_kwargs={'cache_dir': ...}"),
        ({"max_tokens": 3, "max_new_tokens": 3}, "max_tokens and max_new_tokens are the same"),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_valid(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(OptionError, match=re.escape(said)):
        PromptCacheLLM(**settings)


def test_each_name_has_one_place() -> None:
    names = [*PromptCacheLLM.model_fields, *OF_LOADING, *ALIASES]
    assert len(names) == len(set(names))
    with pytest.raises(OptionError, match="parameters: api_key, base_url, callback_manager, "):
        PromptCacheLLM(xyzzy=1)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"temperature": "hot"}, "temperature='hot' is not valid"),
        ({"temperature": -1}, "temperature=-1.0 is not a number above 0"),
        ({"max_new_tokens": 0}, "max_new_tokens=0 is not valid: input should be greater than 0"),
        ({"context_window": 0}, "context_window=0 is not valid: input should be greater than 0"),
        ({"stop": 5}, "stop=5 is not valid: input should be a valid list"),
        ({"seed": -(2**70)}, "is not a whole number from -2**63"),
        ({"reuse": "all"}, "reuse='all' is not a reuse policy; expected for example Modular()"),
        ({"generate_kwargs": {"num_beams": 3}}, "num_beams=3 asks for beam search"),
        ({"generate_kwargs": {"min_p": 3}}, "min_p=3 is not a number from 0 to 1"),
        ({"generate_kwargs": 5}, "generate_kwargs=5 is not valid"),
        ({"stopping_ids": 5.5}, "stopping_ids=5.5 is not a list of token ids"),
        ({"stopping_ids": ["</s>"]}, "stopping_ids=['</s>'] is not a list of token ids"),
        ({"stopping_ids": [None]}, "stopping_ids=[None] is not a list of token ids"),
        ({"messages_to_prompt": 5}, "messages_to_prompt=5 is not valid"),
        ({"completion_to_prompt": "x"}, "completion_to_prompt='x' is not valid"),
        ({"system_prompt": 5}, "system_prompt=5 is not valid"),
        ({"is_chat_model": "maybe"}, "is_chat_model='maybe' is not valid"),
        ({"pydantic_program_mode": "x"}, "pydantic_program_mode='x' is not valid: input should be"),
        ({"output_parser": "x"}, "output_parser='x' is not valid"),
        ({"callback_manager": "x"}, "callback_manager='x' is not valid: expected a Callback"),
        ({"rate_limiter": 60}, "rate_limiter=60 is not valid: expected a BaseRateLimiter"),
        ({"document_variables": "context_str"}, "document_variables='context_str' is not valid"),
        ({"model_name": 5}, "model_name=5 is no name; expected 'pocket', a folder"),
        ({"device_map": {"a": 0, "b": 1}}, "is not one device; promptcache serves models that"),
        ({"device_map": 1.5}, "device_map=1.5 is not one device"),
        ({"engine": "pocket"}, "engine='pocket' is not a PromptCache"),
        ({"model": "pocket"}, "give the name as model_name='pocket'"),
        ({"tokenizer": Path("x")}, "give the name as tokenizer_name='x'"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_name_and_value_before_anything_is_loaded(
    settings: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("promptcache.engine.loading.load", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(OptionError, match=re.escape(said)) as raised:
        PromptCacheLLM(**settings)
    assert "\n" not in str(raised.value)


def test_what_a_model_behind_an_api_takes_is_said_to_have_no_effect(
    engine: PromptCache, caplog: pytest.LogCaptureFixture
) -> None:
    llm(engine, timeout=60, api_key="secret")
    assert "timeout has no effect" in caplog.text
    assert "secret" not in caplog.text


# Loading.


def test_a_folder_is_loaded_with_a_tokenizer_from_another_folder(
    folder: Path, tokenizer_folder: Path
) -> None:
    own = PromptCacheLLM(folder, dtype="float32", device_map="cpu")
    assert own.model_name == own.metadata.model_name == str(folder)
    assert own.engine.tokenizer.chat_template == TEMPLATE
    other = PromptCacheLLM(str(folder), tokenizer_name=tokenizer_folder)
    assert other.engine.tokenizer.chat_template == SHORT_TEMPLATE
    expected = llm(tiny_engine()).complete("Hi").text
    assert own.complete("Hi", **GREEDY).text == expected
    assert other.complete("Hi", **GREEDY).text != expected


def test_loading_takes_what_transformers_takes(folder: Path) -> None:
    store = MemoryStore(10_000_000)
    made = PromptCacheLLM(
        folder,
        device_map={"": torch.device("cpu")},
        model_kwargs={"attn_implementation": "eager"},
        tokenizer_kwargs={"chat_template": SHORT_TEMPLATE},
        dtype="bfloat16",
        store=store,
        namespace="a",
    )
    assert made.engine.store is store
    assert made.engine.model.dtype == torch.bfloat16
    assert made.engine.model.config._attn_implementation == "eager"
    assert made.engine.tokenizer.chat_template == SHORT_TEMPLATE


def test_loaded_objects_are_served_as_they_are() -> None:
    objects = {"model": model("llama"), "tokenizer": byte_tokenizer()}
    made = PromptCacheLLM(**objects, model_name="mine", device_map="auto")
    assert made.engine.model is objects["model"]
    assert made.metadata.model_name == "mine"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"tokenizer": None}, "model= was given without tokenizer=; promptcache takes both"),
        ({"model": None}, "tokenizer= was given without model=; promptcache takes both"),
        ({"tokenizer_name": "x"}, "tokenizer_name= has no effect beside model= and tokenizer="),
        ({"device_map": "cuda"}, "device_map= has no effect beside model= and tokenizer="),
        ({"model_kwargs": {"a": 1}}, "model_kwargs= has no effect beside model= and tokenizer="),
    ],
)
def test_what_has_no_effect_on_loaded_objects_is_refused(
    settings: dict[str, Any], said: str
) -> None:
    objects = {"model": model("llama"), "tokenizer": byte_tokenizer()}
    with pytest.raises(OptionError, match=re.escape(said)):
        PromptCacheLLM(**{**objects, **settings})


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"model_name": "other"}, "serves 'tiny': give one of the two"),
        ({"tokenizer_name": "x"}, "tokenizer_name= has no effect on an engine"),
        ({"model": "x"}, "model= has no effect on an engine"),
        ({"tokenizer": "x"}, "tokenizer= has no effect on an engine"),
        ({"device_map": 0}, "device_map= has no effect on an engine"),
        ({"model_kwargs": {"token": "secret"}}, "model_kwargs= has no effect on an engine"),
    ],
)
def test_what_has_no_effect_on_an_engine_is_refused(
    settings: dict[str, Any], said: str, engine: PromptCache
) -> None:
    with pytest.raises(OptionError, match=re.escape(said)) as raised:
        llm(engine, **settings)
    assert "secret" not in str(raised.value)


def test_a_model_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no model folder at"):
        PromptCacheLLM(tmp_path / "nothing")
    with pytest.raises(ModelError, match="there is no tokenizer folder at"):
        PromptCacheLLM("pocket", tokenizer_name=str(tmp_path / "nothing"))


# What the settings do.


@pytest.mark.parametrize("name", ["max_new_tokens", "max_tokens"])
def test_an_answer_has_no_more_tokens_than_it_may(name: str, engine: PromptCache) -> None:
    counts = [
        PromptCacheLLM(engine=engine, generate_kwargs=LETTERS, **{name: 3}).complete("Hi"),
        PromptCacheLLM(engine=engine, generate_kwargs={**LETTERS, name: 3}).complete("Hi"),
        llm(engine).complete("Hi", **{name: 3}),
    ]
    assert [answer.raw["usage"]["completion_tokens"] for answer in counts] == [3, 3, 3]


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0},
        {"top_p": 0.05},
        {"top_k": 1},
        {"repetition_penalty": 50.0},
        {"seed": 8},
        {"generate_kwargs": {**LETTERS, "min_p": 1.0}},
    ],
)
def test_each_setting_changes_answers_set_here_or_in_a_call(
    settings: dict[str, Any], engine: PromptCache
) -> None:
    base = {"max_new_tokens": 16, "temperature": 2.0, "seed": 7}
    plain = llm(engine, **base)
    in_call = settings.get("generate_kwargs", settings)
    changed = llm(engine, **{**base, **settings}).complete("Hi").text
    assert changed == plain.complete("Hi", **in_call).text
    assert changed != plain.complete("Hi").text


def test_a_call_stands_above_the_settings_and_they_above_generate_kwargs(
    engine: PromptCache,
) -> None:
    made = llm(
        engine, max_new_tokens=4, generate_kwargs={**LETTERS, "max_new_tokens": 2, "top_k": 1}
    )
    assert made.metadata.num_output == 4
    assert made.complete("Hi").raw["usage"]["completion_tokens"] == 4
    assert made.complete("Hi", max_tokens=5).raw["usage"]["completion_tokens"] == 5
    assert made.complete("Hi", reuse=NoReuse()).raw["policy"] == "NoReuse()"


def test_an_answer_ends_before_a_stop_string_and_at_a_stopping_id(engine: PromptCache) -> None:
    text = llm(engine).complete("Hi").text
    letter = next(c for i, c in enumerate(text) if i and c not in text[:i])
    expected = text[: text.index(letter)]
    assert expected
    for answer in (
        llm(engine, stop=letter).complete("Hi"),
        llm(engine, stop_sequences=[letter]).complete("Hi"),
        llm(engine).complete("Hi", stop=[letter]),
        llm(engine, stopping_ids=engine.token_ids(letter)).complete("Hi"),
    ):
        assert answer.text == expected
        assert answer.raw["finish_reason"] == "stop"


def test_stopping_ids_add_to_the_ends_that_are_there(engine: PromptCache) -> None:
    ends = {"eos_token_id": 77}
    assert llm(engine, stopping_ids=[9]).generate_kwargs["eos_token_id"] == [2, 9]
    named = llm(engine, stopping_ids=[9], generate_kwargs=ends)
    assert named.generate_kwargs == {"eos_token_id": [77, 9]}
    assert ends == {"eos_token_id": 77}
    assert "eos_token_id" not in llm(engine, stopping_ids=[]).generate_kwargs


class Turnstile(BaseRateLimiter):
    """Counts who passes."""

    def __init__(self) -> None:
        self.passed = 0

    def acquire(self, num_tokens: int = 0) -> None:
        self.passed += 1

    async def async_acquire(self, num_tokens: int = 0) -> None:
        self.passed += 1


async def test_every_request_passes_the_rate_limiter_once(engine: PromptCache) -> None:
    limiter = Turnstile()
    made = llm(engine, rate_limiter=limiter, max_new_tokens=1)
    messages = [ChatMessage("Hi")]
    prompt = PromptTemplate("{x}")
    made.complete("Hi"), made.chat(messages), made.predict(prompt, x="Hi")
    assert limiter.passed == 3
    list(made.stream_complete("Hi")), list(made.stream_chat(messages))
    list(made.stream(prompt, x="Hi"))
    assert limiter.passed == 6
    await made.acomplete("Hi"), await made.achat(messages), await made.apredict(prompt, x="Hi")
    assert limiter.passed == 9
    for stream in (
        await made.astream_complete("Hi"),
        await made.astream_chat(messages),
        await made.astream(prompt, x="Hi"),
    ):
        [piece async for piece in stream]
    assert limiter.passed == 12


class Loud(BaseOutputParser):
    """Asks for capitals, and makes them."""

    def parse(self, output: str) -> str:
        return output.upper()

    def format(self, query: str) -> str:
        return f"{query} LOUDER!"


@pytest.mark.parametrize("is_chat_model", [True, False])
async def test_an_output_parser_formats_prompts_and_parses_answers(
    is_chat_model: bool, engine: PromptCache
) -> None:
    loud = llm(engine, output_parser=Loud(), is_chat_model=is_chat_model)
    plain = llm(engine, is_chat_model=is_chat_model)
    prompt, louder = PromptTemplate("Speak {x}."), PromptTemplate("Speak {x}. LOUDER!")
    answer = plain.predict(louder, x="up")
    assert loud.predict(prompt, x="up") == await loud.apredict(prompt, x="up") == answer.upper()
    assert answer != answer.upper()


def test_the_program_mode_is_kept(engine: PromptCache) -> None:
    assert llm(engine, pydantic_program_mode="llm").pydantic_program_mode is PydanticProgramMode.LLM


# Metadata.


def test_the_metadata_are_the_models_own(engine: PromptCache) -> None:
    metadata = PromptCacheLLM(engine=engine).metadata
    assert metadata.context_window == 1024 == engine.window
    assert metadata.num_output == 256 == engine.default_new_tokens
    assert metadata.is_chat_model
    assert not metadata.is_function_calling_model
    assert metadata.model_name == "tiny"


def test_the_window_is_the_smaller_of_the_users_and_the_models(engine: PromptCache) -> None:
    assert llm(engine, context_window=100).metadata.context_window == 100
    assert llm(engine, context_window=10**6).metadata.context_window == 1024


def test_a_model_without_a_limit_has_a_window_for_any_prompt() -> None:
    engine = PromptCache(model("bloom"), byte_tokenizer())
    unlimited = llm(engine)
    assert unlimited.window is None
    assert unlimited.metadata.context_window == UNLIMITED
    assert llm(engine, context_window=50).window == 50
    assert unlimited.complete("Hi " * 500).raw["usage"]["prompt_tokens"] > 1024


def test_a_model_without_a_chat_template_is_no_chat_model() -> None:
    metadata = llm(tiny_engine(None)).metadata
    assert not metadata.is_chat_model
    assert llm(tiny_engine(None), is_chat_model=True).metadata.is_chat_model


# What is written of it, and copies.


def test_what_is_written_of_it_is_small_and_holds_no_model_and_no_secret(folder: Path) -> None:
    made = PromptCacheLLM(
        folder,
        model_kwargs={"token": "secret"},
        generate_kwargs={"logits_processor": [model("llama")], "top_k": 3},
        callback_manager=CallbackManager([LlamaDebugHandler()]),
        rate_limiter=Turnstile(),
        output_parser=Loud(),
        reuse=NoReuse(),
    )
    for written in (json.dumps(made.to_dict()), made.to_json(), made.json(), repr(made)):
        assert "secret" not in written
    assert "engine" not in made.to_dict()
    assert "secret" not in json.dumps(made.to_payload())
    assert len(json.dumps(made.to_payload())) < 500
    assert made.to_payload()["class_name"] == made.to_dict()["class_name"] == "PromptCacheLLM"
    plain = llm(made.engine).to_json()
    assert len(plain) < 5000
    assert json.loads(plain)["generate_kwargs"] == LETTERS


def test_a_setting_of_the_engine_that_this_device_has_not_is_refused_by_the_engine() -> None:
    with pytest.raises(OptionError, match="graphs=True cannot be"):
        PromptCacheLLM("pocket", device_map="cpu", graphs=True)


def test_what_is_written_makes_another_of_the_same_settings(
    folder: Path, tokenizer_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = PromptCacheLLM(
        folder,
        tokenizer_name=tokenizer_folder,
        dtype="bfloat16",
        device_map={"": torch.device("cpu")},
        namespace="a",
        compression="int8",
        chat_template=TEMPLATE,
        chat_template_kwargs={"enable_thinking": False},
        conversations=False,
        reuse=Exact(),
        max_new_tokens=5,
        top_k=1,
        system_prompt="Be brief.",
    )
    again = PromptCacheLLM.from_dict(json.loads(made.to_json()))
    assert again.to_dict() == made.to_dict()
    assert again.engine.fingerprint == made.engine.fingerprint
    assert again.engine.model.dtype == torch.bfloat16
    assert again.reuse == Exact()
    assert again.complete("Hi").text == made.complete("Hi").text
    assert copy.deepcopy(again).to_dict() == made.to_dict()
    shared = PromptCacheLLM.from_json(made.to_json(), engine=made.engine, reuse=None)
    assert shared.engine is made.engine
    assert (shared.reuse, shared.system_prompt) == (None, "Be brief.")
    assert caplog.messages == []


def test_what_was_not_written_is_said_unless_it_is_given_again(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    eager = {"attn_implementation": "eager"}
    written = PromptCacheLLM(folder, model_kwargs=eager, output_parser=Loud()).to_dict()
    assert "eager" not in json.dumps(written)
    PromptCacheLLM.from_dict(written)
    line = "not written of this LLM, and not given again: model_kwargs, output_parser"
    assert caplog.messages == [line]
    again = PromptCacheLLM.from_dict(written, model_kwargs=eager, output_parser=Loud())
    assert again.engine.model.config._attn_implementation == "eager"
    assert caplog.messages == [line]


def test_a_model_without_a_name_is_not_loaded_by_one(engine: PromptCache) -> None:
    objects: dict[str, Any] = {"model": model("llama"), "tokenizer": byte_tokenizer()}
    for made in (llm(engine), PromptCacheLLM(**objects, model_name="mine", namespace="a")):
        with pytest.raises(OptionError, match="made of loaded objects, which are not in a dict"):
            PromptCacheLLM.from_dict(made.to_dict())
        assert PromptCacheLLM.from_dict(made.to_dict(), engine=engine).engine is engine
    again = PromptCacheLLM.from_dict(made.to_dict(), **objects)
    assert again.to_dict() == made.to_dict()
    assert again.engine.fingerprint == made.engine.fingerprint


class Mine(ReusePolicy):
    """A policy of a user's own."""


def test_a_policy_of_others_is_given_again(engine: PromptCache) -> None:
    written = llm(engine, reuse=Mine()).to_dict()
    with pytest.raises(OptionError, match=r"Mine.* cannot be read; expected a name"):
        PromptCacheLLM.from_dict(written, engine=engine)
    assert isinstance(PromptCacheLLM.from_dict(written, engine=engine, reuse=Mine()).reuse, Mine)


def test_copies_share_the_engine_and_what_listens(engine: PromptCache) -> None:
    made = llm(
        engine, callback_manager=CallbackManager([LlamaDebugHandler()]), rate_limiter=Turnstile()
    )
    copies = [
        copy.copy(made),
        copy.deepcopy(made),
        made.model_copy(deep=True),
        copy.deepcopy({"llm": made})["llm"],
    ]
    for each in copies:
        assert each.engine is engine
        assert each.callback_manager is made.callback_manager
        assert each.rate_limiter is made.rate_limiter
    copies[1].generate_kwargs["top_k"] = 1
    assert "top_k" not in made.generate_kwargs
    assert made.model_copy(update={"max_new_tokens": 2}).metadata.num_output == 2
    first, second = copy.deepcopy([made, made])
    assert first is second


def test_pickling_is_refused_with_what_to_do_instead(engine: PromptCache) -> None:
    for pickled in (lambda: pickle.dumps(llm(engine)), lambda: pickle.dumps([llm(engine)])):
        with pytest.raises(PromptCacheError, match="cannot be pickled: it holds a loaded model"):
            pickled()


def test_settings_of_llama_index_take_it(
    engine: PromptCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "_llm", None)
    made, manager = llm(engine), CallbackManager([])
    assert resolve_llm(made, callback_manager=manager) is made
    assert made.callback_manager is manager
    Settings.llm = made
    assert Settings.llm is made


# Formats that are the user's own.


def zephyr(prompt: str) -> str:
    return f"<|user|>{prompt}</s><|assistant|>"


def zephyr_chat(messages: Sequence[ChatMessage]) -> str:
    return "".join(f"<|{m.role.value}|>{m.content}</s>" for m in messages) + "<|assistant|>"


SPELLS = "Is </s> an end?"
"""A question that spells a control token, of which each letter is a token."""


def tokens_of(response: CompletionResponse | ChatResponse) -> int:
    assert response.raw is not None
    return sum(span["tokens"] for span in response.raw["provenance"])


@pytest.mark.parametrize("is_chat_model", [True, False])
def test_what_a_users_own_format_writes_is_control_and_what_it_is_given_is_content(
    engine: PromptCache, is_chat_model: bool
) -> None:
    made = llm(
        engine,
        completion_to_prompt=zephyr,
        messages_to_prompt=zephyr_chat,
        is_chat_model=is_chat_model,
    )
    template = PromptTemplate("{context_str} {query_str}")
    assert tokens_of(made.complete(SPELLS)) == len(SPELLS) + 3
    talk = [ChatMessage("Be brief.", role="system"), ChatMessage(SPELLS)]
    assert tokens_of(made.chat(talk)) == len("Be brief." + SPELLS) + 5
    with engine.recording() as replies:
        made.predict(template, context_str="A page.", query_str=SPELLS)
    assert replies[0].usage.input_tokens == len("A page. " + SPELLS) + 3


def test_documents_are_encoded_behind_what_a_users_own_format_has_in_front_of_them(
    engine: PromptCache,
) -> None:
    made = llm(engine, completion_to_prompt=zephyr, is_chat_model=False, system_prompt="Be brief.")
    template = PromptTemplate("Answer from this.\n\n{context_str}\n\n{query_str}")
    page = "The lighthouse of Arven is 31 metres tall."
    assert made.cache_documents([page], template, progress=False).encoded == 1
    with engine.recording() as replies:
        made.predict(template, context_str=page, query_str="How tall?")
    assert replies[0].usage.encoded == 0 and replies[0].usage.reused_tokens > len(page)


@pytest.mark.parametrize("form", [zephyr, lambda prompt: f"<s>{prompt}", None])
@pytest.mark.parametrize("front", ["", "Be brief. Q: "])
def test_documents_behind_the_question_are_reused_in_a_users_own_format(
    engine: PromptCache, form: Any, front: str
) -> None:
    made = llm(engine, completion_to_prompt=form, is_chat_model=False, system_prompt="Be kind.")
    template = PromptTemplate(front + "{query_str}\n{context_str}")
    page = "The lighthouse of Arven is 31 metres tall."
    assert made.cache_documents([page], template, progress=False).encoded == 1
    for question in ("How tall?", "Where?", "What is that?", "Why?"):
        with engine.recording() as replies:
            made.predict(template, context_str=page, query_str=question)
        assert replies[0].usage.encoded == 0 and replies[0].usage.reused_tokens >= len(page)


def test_control_tokens_that_a_format_changes_with_its_text_are_said_to_be_plain_text(
    engine: PromptCache, caplog: pytest.LogCaptureFixture
) -> None:
    made = llm(engine, completion_to_prompt=lambda prompt: zephyr(prompt.upper()))
    with caplog.at_level(logging.WARNING, "promptcache"):
        made.complete("Hi")
        assert tokens_of(made.complete("hi")) > len("hi") + 10  # every letter of them is one
    assert caplog.text.count("the prompt spells '</s>', '<|user|>', '<|assistant|>'") == 1
    plain = llm(engine, completion_to_prompt=lambda prompt: f"Q: {prompt} A:")
    caplog.clear()
    plain.complete("Hi")
    assert caplog.text == ""
