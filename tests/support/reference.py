"""The oracle: what a prompt's logits must be, from plain transformers and its own cache alone.

Slow and simple. Each module is run by the plain model after its context, shifted as a whole to
where the prompt has it, so that the model itself gives the moved keys; everything that is computed
is then run piece by piece, in order, on what stands before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache

from promptcache.layout import Layout, ModuleRun, Piece

SHIFT = 48
"""Added to every position, which changes no logits: a module that moves towards the beginning
would have its context, or a decoy, at negative ones. Less where frequencies change with length."""


@torch.no_grad()
def plain_logits(model: PreTrainedModel, ids: Sequence[int]) -> Tensor:
    """Full prefill: logits `[vocabulary]` of the last token."""
    return model(input_ids=torch.tensor([list(ids)])).logits[0, -1]


@torch.no_grad()
def modular_logits(
    model: PreTrainedModel,
    layout: Layout,
    reused: Collection[Piece],
    again: Collection[int] = (),
) -> Tensor:
    """Logits `[vocabulary]` of the last token when `reused` pieces stand as their modules are,
    but for the tokens at the positions `again`, which are computed where they stand.
    """
    cache = DynamicCache()
    logits = None
    computed = {*again, len(layout.ids) - 1}
    for piece in layout.pieces:
        states = _moved(model, piece) if piece in reused else []
        kept = [bool(states) and piece.start + n not in computed for n in range(len(piece.ids))]
        for stands, group in groupby(range(len(piece.ids)), kept.__getitem__):
            first, *others = group
            stop = first + 1 + len(others)
            if stands:
                _append(cache, states, piece.offset + first, piece.offset + stop)
            else:
                logits = _run(model, piece.ids[first:stop], piece.start + first, cache)
    assert logits is not None
    return logits[0, -1]


@torch.no_grad()
def block_masked_logits(
    model: PreTrainedModel, layout: Layout, blocks: Mapping[str, int]
) -> Tensor:
    """Logits `[vocabulary]` of the last token from one forward under a mask, for models that take
    a mask `[1, 1, queries, keys]`: it does not ask the layout what was encoded with what.

    Modules of one block, told by their names, attend to each other and to the preamble, of which
    each block has a copy in front of it that nobody else sees; all other tokens attend to
    everything before them. No module may have a parameter.
    """
    preamble = [i for p in layout.pieces if p.module == "preamble" for i in p.ids]
    tokens: list[tuple[int, int, int, bool]] = []  # id, position, block, whether of a copy
    begun: set[int] = set()
    for piece in layout.pieces:
        block = blocks.get(piece.module or "", 0)
        if block and block not in begun:
            begun.add(block)
            first = piece.start - len(preamble)
            tokens += [(i, first + n, block, True) for n, i in enumerate(preamble)]
        tokens += [(i, piece.start + n, block, False) for n, i in enumerate(piece.ids)]
    seen = [
        [
            key <= query and (mine == theirs if mine or copied else not copied)
            for key, (_, _, theirs, copied) in enumerate(tokens)
        ]
        for query, (_, _, mine, _) in enumerate(tokens)
    ]
    mask = torch.zeros(len(tokens), len(tokens))
    mask[~torch.tensor(seen)] = torch.finfo(torch.float32).min
    return model(
        input_ids=torch.tensor([[token[0] for token in tokens]]),
        position_ids=torch.tensor([[token[1] + _shift(model) for token in tokens]]),
        attention_mask=mask[None, None],
    ).logits[0, -1]


@torch.no_grad()
def plain_states(model: PreTrainedModel, ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Full prefill: keys and values `[kv_heads, tokens, dim]` of each layer."""
    cache = DynamicCache()
    _run(model, ids, -_shift(model), cache)
    return [(layer.keys[0], layer.values[0]) for layer in cache.layers]


@torch.no_grad()
def module_states(model: PreTrainedModel, piece: Piece) -> list[tuple[Tensor, Tensor]]:
    """The states of a piece's tokens as they were encoded, `[kv_heads, tokens, dim]`, at places of
    their own.
    """
    stop = piece.offset + len(piece.ids)
    return [
        (keys[0, :, piece.offset : stop], values[0, :, piece.offset : stop])
        for keys, values in _moved(model, piece)
    ]


def _moved(model: PreTrainedModel, piece: Piece) -> list[tuple[Tensor, Tensor]]:
    """The states of a piece's whole run, moved as the piece is."""
    assert piece.run is not None
    distance = piece.start - len(piece.run.context.ids) - piece.offset
    return _module(model, piece.run, distance)


def _module(model: PreTrainedModel, run: ModuleRun, distance: int) -> list[tuple[Tensor, Tensor]]:
    """The module's states, moved by `distance`: their mean over its decoys, if it has some."""
    copies = [_encoded(model, run, decoy, distance) for decoy in run.context.decoys or [()]]
    return [
        (torch.stack(keys).mean(0), torch.stack(values).mean(0))
        for keys, values in (zip(*layers, strict=True) for layers in zip(*copies, strict=True))
    ]


def _encoded(
    model: PreTrainedModel, run: ModuleRun, decoy: Sequence[int], distance: int
) -> list[tuple[Tensor, Tensor]]:
    cache = DynamicCache()
    before = (*run.context.ids, *decoy)
    start = distance - len(decoy) if _takes_positions(model) else 0
    _run(model, (*before, *run.ids), start, cache)
    mine = slice(len(before), None)
    return [(layer.keys[:, :, mine], layer.values[:, :, mine]) for layer in cache.layers]


def _append(
    cache: DynamicCache, states: Sequence[tuple[Tensor, Tensor]], start: int, stop: int
) -> None:
    for layer, (keys, values) in enumerate(states):
        cache.update(keys[:, :, start:stop], values[:, :, start:stop], layer)


def _run(model: PreTrainedModel, ids: Sequence[int], start: int, cache: DynamicCache) -> Tensor:
    arguments = {}
    if _takes_positions(model):
        first = start + _shift(model)
        arguments["position_ids"] = torch.arange(first, first + len(ids))[None]
    return model(
        input_ids=torch.tensor([list(ids)]), past_key_values=cache, use_cache=True, **arguments
    ).logits


def _takes_positions(model: PreTrainedModel) -> bool:
    return "position_ids" in inspect.signature(model.forward).parameters


def _shift(model: PreTrainedModel) -> int:
    kind = (getattr(model.config, "rope_parameters", None) or {}).get("rope_type")
    return SHIFT // 3 if kind in ("dynamic", "longrope") else SHIFT
