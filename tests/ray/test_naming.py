"""What a request names, found without a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from promptcache.prompts import key_of
from promptcache.ray.naming import CHAT, COMPLETIONS, PML, Names
from support.serving import OTHER, TEXT, asked, marked


def sent(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


def chat(*content: Any) -> dict[str, Any]:
    return asked(list(content))


def test_the_same_document_has_one_key_marked_recognised_or_imported() -> None:
    names = Names("team")
    names.register({"tower": f"{TEXT}\n"})
    key = f"team/{key_of(TEXT)}"
    question = {"type": "text", "text": f"About {TEXT} What is it?"}
    assert names.of(CHAT, sent(chat(marked(TEXT), {"type": "text", "text": "Well?"}))) == (key,)
    assert names.of(CHAT, sent(chat(question))) == (key,)
    assert names.of(CHAT, sent(asked(question["text"]))) == (key,)
    assert names.of(COMPLETIONS, sent({"prompt": question["text"]})) == (key,)
    markup = '<prompt schema="s"><docs><doc key="{}"/></docs>Well?</prompt>'
    assert names.of(PML, sent({"prompt": markup.format("tower")})) == ("team/s.docs", key)
    own = {"prompt": markup.format("mine"), "documents": {"mine": TEXT}}
    assert names.of(PML, sent(own)) == ("team/s.docs", key)
    block = {"type": "pml", "pml": markup.format("tower")}
    assert names.of(CHAT, sent(chat(block))) == ("team/s.docs", key)


def test_a_marked_text_is_recognised_from_then_on_and_a_forgotten_one_no_longer() -> None:
    names = Names("")
    plain = asked(f"{TEXT} {OTHER}")
    assert names.of(CHAT, sent(chat(marked(TEXT), marked(OTHER)))) == names.of(CHAT, sent(plain))
    names.forget(key_of(TEXT))
    assert names.of(CHAT, sent(plain)) == (f"/{key_of(OTHER)}",)
    names.register([TEXT])
    names.forget(f"trip.docs.{key_of(TEXT)}")
    assert names.of(CHAT, sent(plain)) == (f"/{key_of(OTHER)}",)


def test_namespaces_share_no_keys() -> None:
    one, other = (Names(name).of(CHAT, sent(chat(marked(TEXT)))) for name in ("one", "other"))
    assert not set(one) & set(other)


def test_turns_of_a_conversation_that_names_nothing_have_one_key() -> None:
    names = Names("")
    first = asked("What is a lighthouse?")["messages"]
    said = [
        {"role": "assistant", "content": "A tower."},
        {"role": "user", "content": "And a bell?"},
    ]
    [key] = names.of(CHAT, sent({"messages": first}))
    assert names.of(CHAT, sent({"messages": [*first, *said]})) == (key,)
    assert names.of(CHAT, sent(asked("What is a bell?"))) != (key,)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {}),
        (CHAT, {"messages": 5}),
        (CHAT, {"messages": []}),
        (CHAT, {"messages": [{"role": "user", "content": 7}]}),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "pml"}]}]}),
        (COMPLETIONS, {"prompt": []}),
        (COMPLETIONS, {"prompt": {"a": 1}}),
        (PML, {"prompt": "<prompt"}),
        (PML, {"prompt": None}),
        ("/v1/nothing", {"prompt": TEXT}),
    ],
)
def test_what_cannot_be_read_names_nothing(path: str, body: dict[str, Any]) -> None:
    assert Names("").of(path, sent(body)) == ()
