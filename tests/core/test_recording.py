"""Recordings, and what a trace says of documents that are there in part."""

from __future__ import annotations

from threading import Thread

from promptcache import PromptCache
from support.library import DOCUMENTS
from support.words import byte_tokenizer
from support.zoo import model


def engine() -> PromptCache:
    return PromptCache(model("llama"), byte_tokenizer())


def test_a_recording_has_the_replies_of_all_threads_in_order_until_it_is_closed() -> None:
    cache = engine()
    with cache.recording() as outer:
        first = cache.generate_text("One.", max_new_tokens=2)
        with cache.recording() as inner:
            other = Thread(target=cache.generate_text, args=("Two.",), kwargs={"max_new_tokens": 2})
            other.start()
            other.join()
        cache.generate_text("Three.", max_new_tokens=2)
    cache.generate_text("Four.", max_new_tokens=2)
    assert len(outer) == 3 and len(inner) == 1
    assert outer[0] == first and [r.text for r in outer[1:2]] == [r.text for r in inner]


def test_a_recording_shows_an_answer_that_is_still_coming() -> None:
    cache = engine()
    with cache.recording() as replies:
        stream = cache.stream_text("One.", max_new_tokens=4)
        begun = replies[0].usage.output_tokens
        for _ in stream:
            pass
    assert begun < replies[0].usage.output_tokens == 4
    assert replies[0].trace


def test_the_trace_names_the_documents_that_a_passage_is_a_part_of() -> None:
    cache = engine()
    documents = [f"{text} {text.upper()} {text[::-1]}" for text in DOCUMENTS[:3]]
    cache.cache_documents(documents, progress=False)
    begun, ended = documents[0][:-20], documents[1][20:]
    prompt = f"Context: |{ended}| {documents[2]} |{begun}| Question?"
    quiet = cache.generate_text(prompt, max_new_tokens=1)
    told = cache.generate_text(prompt, passages=(ended, begun), max_new_tokens=1)
    assert not quiet.trace.warnings
    assert len(told.trace.warnings) == 2
    for document, part, line in zip(
        (documents[1], documents[0]), (ended, begun), told.trace.warnings, strict=True
    ):
        assert repr(document[:40]) in line
        assert f"cut: {len(part):,} of its {len(document):,} characters" in line


def test_a_request_may_have_something_to_say_in_its_trace() -> None:
    reply = engine().generate_text("One.", notes=["the second page is missing"], max_new_tokens=1)
    assert reply.trace.warnings == ("the second page is missing",)
