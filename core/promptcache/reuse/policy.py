"""What a reuse policy decides, and when it is asked.

Prefill is one forward over a set of positions. New tokens are always in the set; a policy adds
cached ones to it. It is asked three times, with plain data: when a module is encoded, when a prompt
has been laid out, and when the modules it reuses are at hand; only then may it ask the model.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece

if TYPE_CHECKING:
    from torch import Tensor


class Check(Protocol):
    """What a policy may ask of the model about one prompt. It costs time before the first token."""

    def fresh(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys `[kv_heads, tokens, key_dim]` and values of a layer, as a full prefill has them.

        They are those of the prompt's tokens, from the first to the last that a module could
        serve. The model is run over these, through the layers up to this one.
        """


class ReusePolicy:
    """Reuses every module and computes none of its tokens again, unless a subclass says otherwise.

    A policy is a frozen dataclass whose fields are its parameters.
    """

    __slots__ = ()

    moves: ClassVar[bool] = True
    """Whether it may use attention states elsewhere than where they were computed."""

    recalls: ClassVar[bool] = True
    """Whether it may use what an earlier prompt that began the same has computed."""

    side: ClassVar[tuple[str, ...]] = ()
    """The names of the side tensors that `rank` makes and `recomputed` reads."""

    later: ClassVar[tuple[str, ...]] = ()
    """The names of side tensors that `recomputed` reads where a module has them.

    They take the model, so they are made after the first reply that lacks them (see `unranked`).
    """

    def unranked(self, modules: Collection[str]) -> str:
        """What a trace says of modules that lack them."""
        return f"unranked: {', '.join(sorted(modules))}"

    def rank(self, kv: KV) -> Mapping[str, Tensor]:
        """Side tensors `[tokens, ...]`, named as in `side`, to keep with a module's states.

        Asked when a module is encoded, or first used by a policy that needs what it lacks.
        """
        del kv
        return {}

    def reused(self, layout: Layout) -> tuple[Piece, ...]:
        """The pieces whose attention states this policy wants from their modules."""
        return layout.reusable

    def recomputed(
        self, layout: Layout, records: Mapping[ModuleRun, KV], check: Check
    ) -> Collection[int]:
        """Positions inside the reused pieces whose states are computed again all the same."""
        del layout, records, check
        return ()

    def check_layers(self, layers: int) -> None:
        """Raise OptionError when this policy asks for a layer that a model of so many has not."""
        del layers
