"""A library that is ten times what its store may hold, asked about again and again.

python -m support.cycling REQUESTS FOLDER? is a process of its own for whoever watches its memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

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


def engine(store: Store, *, head_dim: int) -> PromptCache:
    """A small model with large attention states: `32 * 8 * head_dim` bytes a token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=288, hidden_size=64, intermediate_size=64, num_hidden_layers=4,
        num_attention_heads=8, num_key_value_heads=8, head_dim=head_dim,
        max_position_embeddings=1024, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    return PromptCache(LlamaForCausalLM(config).eval(), byte_tokenizer(), store=store)


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
    return cache.stream_messages(asked, max_new_tokens=2)


def cycle(cache: PromptCache, requests: int, during: Callable[[int], None]) -> None:
    """Ask so many times; `during` is called while each request is in flight."""
    for number in range(requests):
        with ask(cache, number) as stream:
            next(stream, None)
            during(number)
            list(stream)


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
