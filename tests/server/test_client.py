"""An engine behind a URL: asked as one in this process is, with the same replies and errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import FastAPI

from core.text.tool_templates import QWEN_TOOLS
from promptcache import FirstK, Frame, NoReuse, PromptCache, PromptCacheError, Reply
from promptcache.errors import OptionError, PMLReferenceError, PromptError, RemoteError
from promptcache.pml import parse_prompt, parse_schema
from promptcache.remote.engine import RemoteEngine
from promptcache.server.app import create_app
from promptcache.server.engines import Engines
from promptcache.server.limits import Limits
from support.scripted import Script, call, roomy_model
from support.serving import (
    OTHER,
    PROMPT,
    SCHEMA,
    TEXT,
    Fixed,
    Held,
    app_with_keys,
    marked,
    running,
    tiny_engines,
)
from support.words import byte_tokenizer

BOTH = [{"role": "user", "content": [marked(TEXT), marked(OTHER), {"type": "text", "text": "Q?"}]}]
OWN = '<schema name="own">Be brief. <collection name="texts"/></schema>'
IMPORTS = '<prompt schema="own"><texts><doc key="a"/><doc key="b"/></texts>Well?</prompt>'
Ask = Callable[[Any], Reply]


def whole(stream: Any) -> Reply:
    """The reply at the end of a stream, whose pieces have to be its text."""
    with stream:
        text = "".join(stream)
        reply: Reply = stream.reply
    assert reply.text == text
    return reply


ASKED: list[Ask] = [
    lambda e: whole(e.stream_messages(BOTH, max_new_tokens=8, temperature=0)),
    lambda e: whole(e.stream_messages(BOTH, max_new_tokens=8, reuse=FirstK(3), seed=4, top_p=0.9)),
    lambda e: whole(e.stream_text(f"{TEXT} And?", max_new_tokens=8, reuse=NoReuse())),
    lambda e: whole(e.stream_text((Frame("<s>"), TEXT, Frame("<s>")), max_new_tokens=8)),
    lambda e: whole(e.stream_text("x" * 30, window=40, max_new_tokens=20, notes=["Said."])),
    lambda e: whole(e.stream_text("Nothing.", max_new_tokens=4, expected=[OTHER])),
    lambda e: whole(e.stream(PROMPT, max_new_tokens=8, stop="a")),
    lambda e: whole(
        e.stream(
            parse_prompt(IMPORTS),
            schema=parse_schema(OWN),
            documents={"a": TEXT, "b": OTHER},
            max_new_tokens=8,
        )
    ),
]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(tiny_engines())) as url:
        yield url


@pytest.fixture
def remote(url: str) -> RemoteEngine:
    return RemoteEngine(f"{url}/v1/")


def alone() -> PromptCache:
    return tiny_engines().of("")


@pytest.mark.parametrize("ask", ASKED)
def test_a_reply_is_the_one_that_an_engine_in_this_process_gives(ask: Ask) -> None:
    local = alone()
    with running(create_app(tiny_engines())) as url:
        remote = RemoteEngine(url)
        for engine in (local, remote):
            engine.add_schema(SCHEMA)
        for _ in range(2):  # what is encoded now, and what is reused then
            expected, reply = ask(local), ask(remote)
            assert reply.text == expected.text
            assert reply.token_ids == expected.token_ids
            assert reply.usage == expected.usage
            assert reply.trace == expected.trace
            assert reply.timings.keys() == expected.timings.keys()
            assert (reply.finish_reason, reply.policy) == (expected.finish_reason, expected.policy)
            assert 0 < reply.ttft < 60


def test_what_is_known_of_the_model_and_its_tokens_is_what_the_model_says(
    remote: RemoteEngine,
) -> None:
    local = alone()
    for name in (
        "name", "window", "default_new_tokens", "has_chat_template", "takes_system",
        "takes_tools", "control_tokens", "fingerprint",
    ):  # fmt: skip
        assert getattr(remote, name) == getattr(local, name)
    assert remote.reuse == str(local.reuse)
    assert remote.token_ids(TEXT) == local.token_ids(TEXT)
    assert remote.count_message_tokens(BOTH) == local.count_message_tokens(BOTH)


def test_documents_are_registered_found_encoded_and_forgotten() -> None:
    texts = [f"Document {n} is about the number {n} and nothing else." for n in range(70)]
    local = alone()
    with running(create_app(tiny_engines())) as url:
        remote = RemoteEngine(url)
        registered = remote.cache_documents(iter(texts), progress=False)
        assert registered == local.cache_documents(iter(texts), progress=False)
        assert remote.documents_in(f"{texts[3]} {texts[1]}") == [texts[3], texts[1]]
        encoded = remote.cache_documents(texts[:2], schema=parse_schema(OWN), progress=False)
        assert encoded.encoded == 2
        assert remote.forget_documents(texts[:3]) == 3
        assert remote.documents_in(f"{texts[3]} {texts[1]}") == [texts[3]]
        with pytest.raises(OptionError, match="pin=True cannot be asked of a server"):
            remote.cache_documents(texts, pin=True)


def test_a_recording_has_what_was_asked_while_it_was_open_and_read_to_its_end(
    remote: RemoteEngine,
) -> None:
    with remote.recording() as replies:
        first = remote.generate_messages(BOTH, max_new_tokens=4)
        others = remote.batch_text(["One.", "Two."], max_new_tokens=4)
        left = remote.stream_text("Three.", max_new_tokens=8)
        next(left)
        left.close()
        read_later = remote.stream_text("Four.", max_new_tokens=4)
    later = whole(read_later)
    remote.generate_text("Five.", max_new_tokens=4)
    assert (replies[0], replies[-1]) == (first, later)
    assert sorted(reply.text for reply in replies[1:-1]) == sorted(each.text for each in others)


@pytest.mark.parametrize(
    ("ask", "kind"),
    [
        (lambda e: e.stream_messages([]), PromptError),
        (lambda e: e.stream_messages([{"role": "user", "content": 5}]), PromptError),
        (lambda e: e.stream('<prompt schema="none"/>'), PMLReferenceError),
        (lambda e: e.stream_text("x" * 3000), PromptError),
        (lambda e: e.stream_text("x", seed=2**70), OptionError),
        (lambda e: e.stream_text("x", max_new_tokens=-1), OptionError),
        (lambda e: e.add_schema('<schema name="a"><b/></schema>'), PromptCacheError),
        (lambda e: e.cache_documents(["x"], schema="none", progress=False), PromptCacheError),
    ],
)
def test_an_error_is_the_one_that_an_engine_in_this_process_raises(
    ask: Ask, kind: type[PromptCacheError], remote: RemoteEngine
) -> None:
    with pytest.raises(kind) as here:
        ask(alone())
    with pytest.raises(kind) as there:
        ask(remote)
    assert str(there.value) == str(here.value)
    assert type(there.value) is type(here.value)


def test_options_that_no_server_takes_are_refused_by_name(remote: RemoteEngine) -> None:
    with pytest.raises(
        OptionError, match=r"num_beams= cannot be asked of a server .*valid|options"
    ):
        remote.stream_text("x", num_beams=2)
    with pytest.raises(OptionError, match=r"temperature: .*less than or equal to 2"):
        remote.stream_text("x", temperature=5.0)


def test_a_key_is_asked_for_and_its_namespace_is_kept_apart(tmp_path: Path) -> None:
    app, [one, other] = app_with_keys(tmp_path, "one", "other")
    with running(app) as url:
        for wrong in (None, "pc-wrong"):
            with pytest.raises(RemoteError, match="the API key is missing or unknown") as refused:
                RemoteEngine(url, wrong)
            assert (refused.value.status, refused.value.code) == (401, "invalid_api_key")
        RemoteEngine(url, one).cache_documents([TEXT], progress=False)
        assert RemoteEngine(url, one).documents_in(TEXT) == [TEXT]
        assert RemoteEngine(url, other).documents_in(TEXT) == []


def test_a_full_server_is_asked_again_when_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    held, pauses = Held(), []

    def paused(seconds: float) -> None:
        pauses.append(seconds)
        held.go.set()
        time.sleep(0.01)

    monkeypatch.setattr("promptcache.remote.transport.time", SimpleNamespace(sleep=paused))
    app = create_app(Fixed(held.engine()), limits=Limits(concurrency=1, queue=0))
    with running(app) as url, ThreadPoolExecutor(1) as threads:
        first = threads.submit(
            lambda: whole(RemoteEngine(url).stream_messages(BOTH, max_new_tokens=4))
        )
        assert held.begun.wait(60)
        with pytest.raises(RemoteError, match=r"1 requests are being served") as full:
            RemoteEngine(url, max_retries=0).stream_messages(BOTH)
        assert full.value.status == 429
        patient = RemoteEngine(url, max_retries=1000)
        assert whole(patient.stream_messages(BOTH, max_new_tokens=4)).text == first.result().text
    assert min(pauses) >= 1


def test_a_silent_server_none_and_another_are_told_apart() -> None:
    held = Held()
    with running(create_app(Fixed(held.engine()))) as url:
        with pytest.raises(RemoteError, match=r"said nothing for 0.3 s"):
            RemoteEngine(url, timeout=0.3).stream_messages(BOTH)
        held.go.set()
    with pytest.raises(RemoteError, match="cannot be reached"):
        RemoteEngine(url, max_retries=0)
    with running(FastAPI()) as other, pytest.raises(RemoteError, match="404, and not as a prompt"):
        RemoteEngine(other)


@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "localhost"}, {"base_url": 5}, {"base_url": "ftp://a"}, {"timeout": 0},
        {"max_retries": -1}, {"api_key": "\n"},
    ],
)  # fmt: skip
def test_a_setting_of_the_connection_that_is_none_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=next(iter(wrong))):
        RemoteEngine(**{"base_url": "http://127.0.0.1:9", **wrong})


def test_a_stream_that_is_closed_ends_its_answer_on_the_server() -> None:
    with running(create_app(tiny_engines(), limits=Limits(concurrency=1, queue=8))) as url:
        remote = RemoteEngine(url)
        for _ in range(3):
            with remote.stream_text("Tell.", max_new_tokens=900) as stream:
                next(stream)
            with pytest.raises(RemoteError, match="has not come to its end"):
                stream.reply  # noqa: B018
        assert whole(remote.stream_text("Tell.", max_new_tokens=2)).usage.output_tokens == 2


def test_several_threads_may_ask_at_once(remote: RemoteEngine) -> None:
    prompts = [f"{TEXT} {number}?" for number in range(12)]
    expected = [alone().generate_text(p, max_new_tokens=6).text for p in prompts]
    replies = remote.batch_text(prompts, max_new_tokens=6)
    assert [reply.text for reply in replies] == expected


def test_calls_of_tools_come_as_they_were_read() -> None:
    class Scripted(PromptCache):
        def stream_messages(self, messages: Any, **options: Any) -> Any:
            script = Script(lambda _: call("search", query="bridge"))
            return super().stream_messages(messages, **options, logits_processor=[script])

    engine = Scripted(roomy_model(), byte_tokenizer(QWEN_TOOLS), name="tiny")
    engines: Engines = Fixed(engine)
    parameters = {"type": "object", "properties": {"query": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "search", "parameters": parameters}}]
    asked = [{"role": "user", "content": "Find it."}]
    with running(create_app(engines)) as url:
        remote = RemoteEngine(url)
        remote.calling(tools, "auto")
        reply = whole(remote.stream_messages(asked, tools=tools, max_new_tokens=200))
    [made] = reply.tool_calls
    assert (made.name, made.arguments) == ("search", {"query": "bridge"})
