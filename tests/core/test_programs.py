"""Prompt programs before an engine: answers and reuse are those of the same prompts in PML."""

from __future__ import annotations

from typing import Annotated

from promptcache import Length, PromptCache, role, schema
from promptcache.pml import Prompt, write
from support.words import byte_tokenizer
from support.zoo import model


@schema
def stay(days: Annotated[str, Length(8)]):
    f" Stay for {days}."  # noqa: B021


@schema
def trip(place: str, days: str, question: str):
    with role("system"):
        "You plan trips."
    with role("user"):
        "Read this."
        match place:
            case "miami":
                " Miami is hot and loud."
            case "maui":
                " Maui is an island in the sea."
        stay(days)
        question  # noqa: B018


MARKUP = '<prompt schema="trip"><maui/><stay days="3 days"/> What now?</prompt>'


def engine() -> PromptCache:
    return PromptCache(model("llama"), byte_tokenizer())


def test_answers_and_traces_are_those_of_markup() -> None:
    programs, markup = engine(), engine()
    programs.add_schema(trip.schema)
    markup.add_schema(write(trip.schema))
    told = programs.generate(trip("maui", "3 days", " What now?"), max_new_tokens=8)
    read = markup.generate(MARKUP, max_new_tokens=8)
    assert told.token_ids == read.token_ids
    assert told.trace.spans == read.trace.spans
    assert told.usage.encoded == 0


def test_a_program_that_is_registered_nowhere_goes_with_its_schema() -> None:
    cache = engine()
    for question, encodes in ((" What now?", True), (" And then?", False)):
        prompt = trip("miami", "a day", question)
        assert isinstance(prompt, Prompt)
        reply = cache.generate(prompt, schema=trip.schema, max_new_tokens=2)
        assert bool(reply.usage.encoded) is encodes
    modules = {span.module for span in reply.trace if span.module}
    assert modules >= {"preamble", "trip.miami", "trip.stay"}
