"""Other systems: measured where they are installed, and then on the very same model."""

from __future__ import annotations

import pytest
import torch
from transformers import DynamicCache

from promptcache.bench import peers
from promptcache.bench.baselines import forward
from promptcache.bench.models import Subject
from promptcache.bench.models import subject as named
from promptcache.bench.orders import Order
from promptcache.bench.prompts import FORMS, Library, Questions, new_engine
from promptcache.bench.ttft import Plan, Trial
from promptcache.errors import UnsupportedModelError

pytestmark = pytest.mark.filterwarnings(  # of what others' packages leave open
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore::FutureWarning:contextlib",
)
PLAN = Plan(documents=3, tokens=100, new=16)


def trial(subject: Subject) -> Trial:
    engine = new_engine(subject)
    library = Library.of(engine.count_tokens, PLAN.documents, PLAN.tokens)
    questions = Questions(engine.count_tokens, PLAN.new)
    return Trial(subject, PLAN, FORMS["pml"], library, questions, [])


def test_a_peer_that_is_not_installed_is_said_to_be_missing(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Subject) -> object:
        raise UnsupportedModelError("too small")

    nobody = {"Nobody": (("no_such_module",), refuse), "Small": (("json",), refuse)}
    monkeypatch.setattr(peers, "PEERS", nobody)
    assert peers.at_hand(subject) == (
        [],
        [
            "Nobody: not installed (no module no_such_module)",
            "Small: not for this model: too small",
        ],
    )


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_peer_reuses_what_stood_in_the_same_order(name: str) -> None:
    modules, make = peers.PEERS[name]
    for module in modules:
        pytest.importorskip(module)
    model = named("pocket")
    peer, mine = make(model), trial(model)
    peer.remember(mine.asked(Order.IN_ORDER))
    again = peer.first_token(mine.asked(Order.IN_ORDER))
    assert again.seconds > 0
    assert again.cached > mine.module_tokens / 2
    peer.remember(mine.asked(Order.IN_ORDER))
    prompt = mine.asked(Order.SHUFFLED)
    other = peer.first_token(prompt)
    assert other.cached + other.new == len(prompt.ids)
    assert other.cached < again.cached


def test_llama_cpp_computes_what_transformers_does() -> None:
    for module in ("llama_cpp", "gguf"):
        pytest.importorskip(module)
    from promptcache.bench.peers.llamacpp import LlamaCppPeer

    model = named("pocket")
    peer = LlamaCppPeer(model)
    for count in (20, 100, 300):
        generator = torch.Generator().manual_seed(count)
        ids = torch.randint(8, 1500, (count,), generator=generator).tolist()
        assert peer.token(ids) == forward(model, ids, DynamicCache())
