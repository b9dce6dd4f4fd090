"""Many queries at once in one event loop: answered as one by one, and the loop stays free."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Event
from typing import Any

import pytest
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import TextNode
from torch import Tensor

from llama_index_promptcache import PromptCacheLLM
from support.llama import Shelf, unspeakable
from support.rag import tiny_engine

NODES = [TextNode(text=f"The inn of {name} has {rooms} rooms and a garden.") for rooms, name in
         enumerate(("Arven", "Ostmark", "Kolt", "Orlec", "Tilmar"), 30)]  # fmt: skip
MODES = ["compact", "refine", "tree_summarize", "accumulate"]
QUERIES = 20


class Ticking:
    """A task of the event loop that ticks, and a logits processor that waits for its next tick.

    A model that is run in the event loop would wait for a tick that cannot come.
    """

    def __init__(self) -> None:
        self.ticked = Event()
        self.waited = 0
        self.missed = 0

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        self.ticked.clear()
        self.waited += 1
        self.missed += not self.ticked.wait(timeout=60)
        return scores

    async def tick(self) -> None:
        while True:
            self.ticked.set()
            await asyncio.sleep(0.001)


def llm(**kwargs: Any) -> PromptCacheLLM:
    silent = list(unspeakable())
    return PromptCacheLLM(
        engine=tiny_engine(),
        max_new_tokens=6,
        temperature=0,
        generate_kwargs={"suppress_tokens": silent, **kwargs},
    )


def asked(number: int) -> tuple[list[TextNode], str]:
    """The nodes of a query, in an order of its own, and its question."""
    first = number % len(NODES)
    return [*NODES[first:], *NODES[:first]][:3], f"How many rooms has inn {number}?"


async def with_ticks(run: Callable[[PromptCacheLLM], Any], **kwargs: Any) -> tuple[Any, Ticking]:
    ticking = Ticking()
    task = asyncio.create_task(ticking.tick())
    try:
        return await run(llm(logits_processor=[ticking], **kwargs)), ticking
    finally:
        task.cancel()


@pytest.mark.parametrize("mode", MODES)
async def test_twenty_queries_at_once_answer_as_one_by_one_and_the_loop_stays_free(
    mode: str,
) -> None:
    def engine(model: PromptCacheLLM, nodes: list[TextNode]) -> RetrieverQueryEngine:
        return RetrieverQueryEngine.from_args(Shelf(nodes), llm=model, response_mode=mode)

    async def all_at_once(model: PromptCacheLLM) -> list[str]:
        queries = [asked(number) for number in range(QUERIES)]
        replies = await asyncio.gather(
            *(engine(model, nodes).aquery(question) for nodes, question in queries)
        )
        return [str(reply) for reply in replies]

    answers, ticking = await with_ticks(all_at_once)
    one_by_one = llm()
    expected = [
        str(engine(one_by_one, nodes).query(question))
        for nodes, question in map(asked, range(QUERIES))
    ]
    assert answers == expected
    assert ticking.waited >= QUERIES * 6 and ticking.missed == 0


async def test_chats_at_once_keep_to_their_own_conversation() -> None:
    def engine(model: PromptCacheLLM, number: int) -> ContextChatEngine:
        return ContextChatEngine.from_defaults(
            retriever=Shelf(asked(number)[0]),
            llm=model,
            memory=ChatMemoryBuffer.from_defaults(token_limit=10**6, tokenizer_fn=str.split),
        )

    async def chat(model: PromptCacheLLM, number: int) -> list[str]:
        talking = engine(model, number)
        said = [str(await talking.achat(f"{turn} {asked(number)[1]}")) for turn in range(3)]
        streamed = await talking.astream_chat("And now?")
        return [*said, "".join([piece async for piece in streamed.async_response_gen()])]

    async def all_at_once(model: PromptCacheLLM) -> list[list[str]]:
        return await asyncio.gather(*(chat(model, number) for number in range(5)))

    answers, ticking = await with_ticks(all_at_once)
    one_by_one = llm()
    assert answers == [await chat(one_by_one, number) for number in range(5)]
    assert ticking.missed == 0
