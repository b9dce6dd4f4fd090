"""Other systems that reuse attention states: an adapter each, measured where they are installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec

from promptcache.bench.baselines import Baseline
from promptcache.bench.models import Subject
from promptcache.errors import UnsupportedModelError


def _kvboost(subject: Subject) -> Baseline:
    from promptcache.bench.peers.kvboost import KVBoostPeer

    return KVBoostPeer(subject)


def _llama_cpp(subject: Subject) -> Baseline:
    from promptcache.bench.peers.llamacpp import LlamaCppPeer

    return LlamaCppPeer(subject)


PEERS: dict[str, tuple[tuple[str, ...], Callable[[Subject], Baseline]]] = {
    "KVBoost": (("kvboost",), _kvboost),
    "llama.cpp": (("llama_cpp", "gguf"), _llama_cpp),
}
"""By name: the modules that a peer needs, and what makes it for a model."""


def at_hand(subject: Subject) -> tuple[list[Baseline], list[str]]:
    """The peers that are installed, made for a model; and why each of the others has no rows."""
    found: list[Baseline] = []
    lines: list[str] = []
    for name, (modules, make) in PEERS.items():
        if missing := _missing(modules):
            lines.append(f"{name}: not installed (no module {', '.join(missing)})")
            continue
        try:
            found.append(make(subject))
        except UnsupportedModelError as error:
            lines.append(f"{name}: not for this model: {error}")
    return found, lines


def _missing(modules: Sequence[str]) -> list[str]:
    return [module for module in modules if find_spec(module) is None]
