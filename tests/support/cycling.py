"""A library that is ten times what its store may hold, asked about again and again.

python -m support.cycling REQUESTS FOLDER? is a process of its own for whoever watches its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from promptcache import DiskStore, MemoryStore, PromptCache, Store, Stream, Tiers
from promptcache.bench.resident import forget_peak
from support.words import byte_tokenizer

DOCUMENTS = 100
GROUP = 3
"""Documents in a prompt."""
TIMES = 10
"""How many times the budget the library is."""
TOKENS = 192
AROUND = 32
"""Tokens of a prompt beside each document, at most."""
TEXTS = [f"{number:04} ".ljust(TOKENS, "abcdefghij"[number % 10]) for number in range(DOCUMENTS)]
SYSTEM = "Answer from these.\n"
PATIENCE = 60
"""Seconds after which whoever still waits is taken to wait for ever."""


def engine(store: Store, *, head_dim: int, at_once: int | None = None) -> PromptCache:
    """A small model with large attention states: `32 * 8 * head_dim` bytes a token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=288, hidden_size=64, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=8, head_dim=head_dim,
        max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    network = LlamaForCausalLM(config).eval()
    return PromptCache(network, byte_tokenizer(), store=store, max_concurrent=at_once)


def module_bytes(head_dim: int) -> int:
    """What the states of one document take."""
    return TOKENS * 32 * 8 * head_dim


def arena_bytes(head_dim: int) -> int:
    """What the arena of one request takes: its documents, and a little that stands around each.

    One part in eight is for longer prompts to come (`model/spare.py`).
    """
    return GROUP * (TOKENS + AROUND) * 32 * 8 * head_dim * 9 // 8


def budget_of(head_dim: int) -> int:
    """A tenth of what the library takes."""
    return DOCUMENTS // TIMES * module_bytes(head_dim)


def ask(cache: PromptCache, number: int) -> Stream:
    """The next request: the library in turn, so that each document is gone when it comes again."""
    chosen = [TEXTS[(number * GROUP + place) % DOCUMENTS] for place in range(GROUP)]
    asked = [
        {"role": "system", "content": SYSTEM + "\n\n".join(chosen)},
        {"role": "user", "content": f"{number}?"},
    ]
    return cache.stream_messages(asked, max_new_tokens=2, min_new_tokens=2)


def cycle(cache: PromptCache, requests: int, during: Callable[[int], None]) -> None:
    """Ask so many times; `during` is called while each request is in flight."""
    for number in range(requests):
        with ask(cache, number) as stream:
            next(stream, None)
            during(number)
            list(stream)


def cycle_at_once(cache: PromptCache, rounds: int, at_once: int, during: Callable[[], None]) -> int:
    """Ask as often as gives so many rounds of `at_once` requests, by twice as many threads.

    `during` is called while all of a round are in flight. How many were at most, all in all.
    """
    together = Barrier(at_once + 1, timeout=PATIENCE)
    flying: list[int] = []
    most = 0

    def answer(number: int) -> None:
        nonlocal most
        with ask(cache, number) as stream:
            flying.append(number)
            most = max(most, len(flying))
            together.wait()
            together.wait()
            flying.remove(number)
            list(stream)

    with ThreadPoolExecutor(2 * at_once) as pool:
        asked = [pool.submit(answer, number) for number in range(rounds * at_once)]
        for _ in range(rounds):
            together.wait()
            during()
            together.wait()
        for each in asked:
            each.result()
    return most


def main() -> None:
    """Ask, and say when the memory is to be looked at; ends when it is told to."""
    requests, folder = int(sys.argv[1]), sys.argv[2:]
    head_dim = 128
    store: Store = MemoryStore(budget_of(head_dim))
    if folder:
        disk = DiskStore(Path(folder[0]), 4 * budget_of(head_dim))
        store = Tiers(store, disk, waiting=module_bytes(head_dim))
    cache = engine(store, head_dim=head_dim)
    cache.cache_documents(TEXTS, progress=False)
    cycle(cache, 2, lambda _: None)
    store.evict()
    forget_peak()
    print("ready", flush=True)
    sys.stdin.readline()
    cycle(cache, requests, lambda _: None)
    print(store.nbytes, flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
