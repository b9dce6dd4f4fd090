"""One forward of the user's model over chosen positions of an arena.

The only place that calls the model. Knows nothing about modules, policies or text.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from threading import Lock, RLock
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from promptcache.errors import ModelError
from promptcache.model.abreast import Abreast
from promptcache.model.arena import Arena, LayerShape
from promptcache.model.attention import attention_set, configs_of
from promptcache.model.overlap import lane_of
from promptcache.model.owncache import OwnCache
from promptcache.model.shared import SharedArena
from promptcache.model.spare import SpareMemory
from promptcache.model.static import QUERIES, Inputs, StaticArena, StaticForwards
from promptcache.rotate import Movement


@dataclass(frozen=True, slots=True)
class Traits:
    """What promptcache has found out about a model by running it (see `probe`).

    `layers` is empty for a model whose states are not keys and values per token: nothing of it
    can be reused. `attention` is the name of the attention that our forwards use, None for the
    model's own; `movement` says how its keys move from one position to another.
    """

    layers: tuple[LayerShape, ...]
    attention: str | None
    movement: Movement

    @property
    def token_bytes(self) -> int:
        """Bytes of one token's attention states over all layers."""
        return sum(layer.token_bytes for layer in self.layers)


def new_arena(runner: ModelRunner, traits: Traits, capacity: int) -> Arena | OwnCache:
    """Room for one sequence of at most `capacity` tokens."""
    if not traits.layers:
        return OwnCache(runner.model.config)
    lent = None if runner.static is None else runner.static.lend(capacity)
    return lent or Arena(traits.layers, capacity=capacity, spare=runner.spare)


_locks: WeakKeyDictionary[PreTrainedModel, RLock] = WeakKeyDictionary()
_locks_lock = Lock()


def _lock_of(model: PreTrainedModel) -> RLock:
    """One lock for all that run one model: our attention is set on its config meanwhile."""
    with _locks_lock:
        return _locks.setdefault(model, RLock())


class ModelRunner:
    """A model that runs forwards for us, one at a time, under the model's lock."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.lock = _lock_of(model)
        self.spare = SpareMemory()
        self.lane = lane_of(self.device)
        self.static: StaticForwards | None = None
        self._form = self._current_form()
        accepted = inspect.signature(model.forward).parameters
        self._configs = configs_of(model)
        self._cache_name = "past_key_values" if "past_key_values" in accepted else "cache_params"
        self._takes_positions = "position_ids" in accepted
        self._takes_logits_to_keep = "logits_to_keep" in accepted

    def _current_form(self) -> tuple[torch.dtype, torch.device]:
        weight: Tensor = self.model.get_input_embeddings().weight
        return weight.dtype, weight.device

    @property
    def device(self) -> torch.device:
        """Where the model takes its token ids."""
        device: torch.device = self.model.get_input_embeddings().weight.device
        return device

    @property
    def takes_positions(self) -> bool:
        """Whether the model is told its tokens' positions, or counts them itself."""
        return self._takes_positions

    def forward(
        self,
        ids: Tensor,
        positions: Sequence[int],
        arena: Arena | OwnCache,
        *,
        length: int | None = None,
        attention: str | None = None,
        every_logit: bool = False,
    ) -> Tensor:
        """Compute `positions` (sorted) of a sequence whose other slots the arena holds.

        `ids` is `[batch, len(positions)]`. The sequence ends after the last position unless
        `length` says otherwise. Returns logits `[batch, vocabulary]` of the last position, or
        `[batch, len(positions), vocabulary]` when `every_logit` is asked for.
        """
        kept = None if every_logit else 1
        with self.lock:
            self._check_model()
            if (
                self.static is not None
                and isinstance(arena, StaticArena)
                and not every_logit
                and len(positions) <= QUERIES[-1]
            ):
                tokens = ids[0].tolist()
                run = partial(self._of_fixed_size, arena, attention)
                return self.static.forward(arena, tokens, positions, run)
            arena.aim(positions, positions[-1] + 1 if length is None else length)
            logits = self._run(ids, torch.tensor([positions]), arena, attention, kept)
        return logits if every_logit else logits[:, -1]

    def forward_rows(
        self,
        ids: Sequence[Sequence[int]],
        work: Sequence[tuple[int, Sequence[int]]],
        arena: SharedArena | Abreast,
        *,
        attention: str | None,
    ) -> Tensor:
        """Compute tokens of several rows, of one arena or abreast, in one line without padding.

        `work` holds rows and sorted positions of each, `ids` the tokens there. Returns logits
        `[rows, vocabulary]` of the last position of each.
        """
        line = torch.tensor([[token for row in ids for token in row]])
        places = torch.tensor([[place for _, positions in work for place in positions]])
        last = torch.tensor([*accumulate(map(len, ids))]) - 1
        with self.lock:
            self._check_model()
            arena.aim(work)
            logits = self._run(line, places, arena, attention, last.to(self.device))[0]
            arena.check_attended()
        return logits if logits.shape[0] == len(last) else logits[last.to(logits.device)]

    def _of_fixed_size(self, arena: StaticArena, attention: str | None, inputs: Inputs) -> Tensor:
        """The logits `[1, vocabulary]` of the last token of padded inputs."""
        logits = self._run(inputs.ids, inputs.positions, arena, attention, inputs.last)
        return logits[:, -1] if logits.shape[1] == 1 else logits.index_select(1, inputs.last)[:, 0]

    def _check_model(self) -> None:
        """Raise ModelError for a model that is no longer as it was."""
        if self.model.training:
            raise ModelError(
                "the model is in training mode, where dropout makes attention states random; "
                "call model.eval() first"
            )
        if self._current_form() != self._form:
            was, now = (" on ".join(map(str, form)) for form in (self._form, self._current_form()))
            raise ModelError(
                f"the model was {was} when its engine was made and is {now} now; make a new engine"
            )

    def _run(
        self,
        ids: Tensor,
        positions: Tensor,
        cache: Arena | OwnCache | SharedArena | Abreast,
        attention: str | None,
        kept: int | Tensor | None,
    ) -> Tensor:
        """The model's logits of `ids` `[batch, tokens]` at `positions` `[1, tokens]`.

        Only those of the last `kept` tokens, or of the tokens at these places, where the model
        can leave out the others.
        """
        arguments: dict[str, object] = {self._cache_name: cache}
        if self._takes_positions:
            arguments["position_ids"] = positions.to(self.device).expand(ids.shape[0], -1)
        if self._takes_logits_to_keep and kept is not None:
            arguments["logits_to_keep"] = kept
        with torch.no_grad(), attention_set(self._configs, attention, cache):
            output = self.model(
                input_ids=ids.to(self.device),
                use_cache=True,
                return_dict=True,
                **arguments,
            )
        logits: Tensor = output.logits
        return logits
