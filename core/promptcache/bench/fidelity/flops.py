"""What a prefill costs in floating-point operations, worked out from a model's shapes.

Two for each weight of a linear layer that a token meets, and two for each number of a key or a
value that a query meets: every token attends to all before it and itself, a layer's window aside.
The output layer counts for one token. What little the rest takes is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from promptcache.model.runner import Traits
from promptcache.reply import Reply
from promptcache.trace import Provenance

ROUTED = ("num_local_experts", "num_experts", "n_routed_experts")
"""How configs name the number of experts of which a token meets some."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What one model's prefills cost; `weights` are those that each token meets, `head` the last
    one's besides, `numbers` those of the keys and values, in all layers, that one query meets of
    one token, every head's.
    """

    weights: float
    head: int
    numbers: int

    @classmethod
    def of_model(cls, model: PreTrainedModel, traits: Traits) -> Costs:
        """The costs of a model; without keys and values there is no attention to count."""
        config = model.config.get_text_config()
        head = model.get_output_embeddings()
        sizes = sum(layer.key_dim + layer.value_dim for layer in traits.layers)
        return cls(
            sum(_linear_weights(model, head, _share_of_experts(config))),
            head.weight.numel() if head is not None else 0,
            sizes * int(config.num_attention_heads) if traits.layers else 0,
        )

    def tokens(self, start: int, stop: int, count: float | None = None) -> float:
        """Computing `count` of the tokens from `start` to `stop`, spread evenly; or all of them."""
        length = stop - start
        if not length:
            return 0.0
        share = 1.0 if count is None else count / length
        seen = (start + 1 + stop) * length / 2
        return 2 * share * (self.weights * length + self.numbers * seen)

    def full(self, tokens: int) -> float:
        """A full prefill of so many tokens."""
        return self.tokens(0, tokens) + 2 * self.head

    def of(self, reply: Reply) -> float:
        """The prefill that a reply tells of: what is new, and what is computed again.

        Tokens of a module that are computed again count as if they were spread over it evenly,
        and so does what a policy had the model run over to choose them.
        """
        computed = 0.0
        for span in reply.trace:
            whole = span.provenance in (Provenance.NEW, Provenance.RECOMPUTED)
            count = span.tokens if whole else span.recomputed
            computed += self.tokens(span.start, span.start + span.tokens, count)
        usage = reply.usage
        return computed + self.tokens(0, usage.input_tokens, usage.checked) + 2 * self.head


def _linear_weights(
    model: PreTrainedModel, head: nn.Module | None, experts: float
) -> Iterator[float]:
    """The weights of each layer that a token meets: those of experts as often as it is sent there.

    Tables of embeddings are looked up, not multiplied with, and the output layer counts apart.
    """
    for path, module in model.named_modules():
        if module is head or isinstance(module, nn.Embedding):
            continue
        share = experts if "experts" in path.split(".") else 1.0
        for parameter in module.parameters(recurse=False):
            if parameter.ndim > 1:
                yield share * parameter.numel()


def _share_of_experts(config: Any) -> float:
    every = next((n for name in ROUTED if (n := getattr(config, name, None))), None)
    chosen = getattr(config, "num_experts_per_tok", None)
    return chosen / every if every and chosen else 1.0
