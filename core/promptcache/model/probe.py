"""What a model is like, found out by running it on a few tokens when it is loaded.

Instead of a table of families: the shapes of its attention states, whether it takes our attention,
and how its keys move, layer by layer. A new family needs no new code; one that cannot be served is
refused with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import CacheLayerMixin, DynamicCache

from promptcache.errors import UnsupportedModelError
from promptcache.model import attention
from promptcache.model.arena import Arena, LayerShape
from promptcache.model.runner import ModelRunner, Traits
from promptcache.rotate import Movement, Rotation, moved

TOKENS = 24
DISTANCES = (7, 40, 200)
WINDOWS = ("max_position_embeddings", "max_seq_len", "n_positions")
CHANGES_WITH_LENGTH = ("dynamic", "longrope")


def probe(runner: ModelRunner) -> Traits:
    """Run the model a few times on short sequences and say how it is to be used.

    Raises UnsupportedModelError for a model that does not reproduce its own logits when positions
    are computed out of order.
    """
    attention.register()
    ids = _probe_ids(runner.model)
    with runner.lock, torch.no_grad():
        output = runner.model(input_ids=ids, use_cache=True, return_dict=True)
        layers = getattr(getattr(output, "past_key_values", None), "layers", ())
        if not layers or not all(_holds_keys(layer) for layer in layers):
            return Traits((), None, Movement(unmovable=_opaque(runner.model, layers)))
        shapes = tuple(_shape(layer) for layer in layers)
        chosen = _attention(runner, shapes, ids, output.logits)
        return Traits(shapes, chosen, _movement(runner, ids))


def window_of(config: Any) -> int | None:
    """The tokens that a model's window holds, answer included; None where it says no limit.

    Dynamic rotary scaling stretches the window that the config names by its factor.
    """
    window = _named_window(config)
    described = config.get_text_config().to_dict()
    if window and "dynamic" in _values_of("rope_type", described):
        return int(window * max(_values_of("factor", described), default=1.0))
    return window


def _named_window(config: Any) -> int | None:
    text = config.get_text_config()
    named = (getattr(text, name, None) for name in WINDOWS)
    return next((value for value in named if isinstance(value, int)), None)


def _probe_ids(model: PreTrainedModel) -> Tensor:
    vocabulary = model.get_input_embeddings().weight.shape[0]
    generator = torch.Generator().manual_seed(0)
    low = min(8, vocabulary - 1)
    ids = torch.randint(low, vocabulary, (1, TOKENS), generator=generator)
    return ids.to(model.get_input_embeddings().weight.device)


def _shape(layer: Any) -> LayerShape:
    return LayerShape(
        layer.keys.shape[1],
        layer.keys.shape[3],
        layer.values.shape[3],
        layer.keys.dtype,
        layer.keys.device,
    )


def _opaque(model: PreTrainedModel, layers: Sequence[Any]) -> str:
    kinds = {type(layer).__name__ for layer in layers if not _holds_keys(layer)}
    return (
        f"{type(model).__name__} keeps state that is not keys and values per token "
        f"({', '.join(sorted(kinds)) or 'recurrent'}), as linear attention does, which cannot be "
        "cut into modules"
    )


def _holds_keys(layer: Any) -> bool:
    holds = isinstance(layer, CacheLayerMixin) and isinstance(layer.keys, Tensor)
    return holds and layer.keys.ndim == 4 and layer.keys.shape[2] > 0


def _attention(
    runner: ModelRunner, shapes: Sequence[LayerShape], ids: Tensor, expected: Tensor
) -> str | None:
    """The first attention with which positions computed out of order give the model's logits."""
    scattered = sorted({*range(1, TOKENS, 3), *range(2, TOKENS, 5), TOKENS - 1})
    problems = []
    for name in (attention.NAME, None):
        arena = Arena(shapes, capacity=TOKENS)
        try:
            runner.forward(ids, range(TOKENS), arena, attention=name)
            for layer in arena.layers:
                layer.keys[:, :, scattered] = layer.values[:, :, scattered] = 1.0
            got = runner.forward(
                ids[:, scattered], scattered, arena, attention=name, every_logit=True
            )
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            problems.append(f"{name or 'its own attention'}: {error}")
            continue
        difference = _relative(got, expected[:, scattered])
        if difference <= _tolerance(expected.dtype):
            return name
        problems.append(f"{name or 'its own attention'}: logits differ by {difference:.1g}")
    raise UnsupportedModelError(
        f"{type(runner.model).__name__} does not give its own logits when positions are computed "
        f"out of order ({'; '.join(problems)}). Use plain transformers for this model."
    )


def _movement(runner: ModelRunner, ids: Tensor) -> Movement:
    described = runner.model.config.to_dict()
    kinds = {*_values_of("rope_type", described), *_values_of("type", described)}
    changing = [kind for kind in CHANGES_WITH_LENGTH if kind in kinds]
    limit = _original_window(runner.model.config) if changing else None
    limited_by = f"{changing[0]} rotary scaling" if changing else None
    window = min(limit or 1 << 30, window_of(runner.model.config) or 1 << 30)
    distances = [d for d in DISTANCES if d + TOKENS <= window] or [max(1, window - TOKENS)]
    rotations, problem = _rotations(runner, ids, distances)
    return Movement(rotations, problem, limit, limited_by)


def _rotations(
    runner: ModelRunner, ids: Tensor, distances: Sequence[int]
) -> tuple[tuple[Rotation | None, ...], str | None]:
    """One rotation per layer that maps keys at position 0 to keys at each of `distances`."""
    at_zero = _keys_at(runner, ids, 0)
    shifted = [(d, _keys_at(runner, ids, d)) for d in distances]
    behind = _first_layer_keys_behind(runner, ids, distances[0])
    tolerance = _tolerance(at_zero[0].dtype)
    candidates = list(_candidates(runner.model))
    found: list[Rotation | None] = []
    for layer, keys in enumerate(at_zero):
        pairs = [(d, others[layer]) for d, others in shifted]
        if layer == 0:
            pairs.append((distances[0], behind))
        fitting = [r for r in candidates if r is None or r.fits(keys.shape[-1])]
        fits = [(_misfit(keys, pairs, rotation), rotation) for rotation in fitting]
        error, best = min(fits, key=lambda fit: fit[0])
        if not error <= tolerance:
            return (), (
                f"{type(runner.model).__name__}'s keys depend on absolute positions: in layer "
                f"{layer} no rotation maps a key at one position to its key at another"
            )
        found.append(best)
    return tuple(found), None


def _misfit(keys: Tensor, pairs: Sequence[tuple[int, Tensor]], rotation: Rotation | None) -> float:
    """How far the moved keys are from those at the other position, the worst distance counting.

    In low precision the median token speaks: experts that are chosen by a hair's breadth may
    differ between two runs of one token.
    """
    low_precision = keys.dtype not in (torch.float32, torch.float64)
    worst = 0.0
    for distance, there in pairs:
        error = (moved(keys, rotation, distance).float() - there.float()).norm(dim=(0, 2))
        share = error / there.float().norm(dim=(0, 2)).clamp_min(1e-12)
        typical = share.median() if low_precision else share.max()
        worst = max(worst, float(typical.nan_to_num(float("inf"))))
    return worst


def _keys_at(runner: ModelRunner, ids: Tensor, start: int) -> list[Tensor]:
    arguments: dict[str, Any] = {}
    if runner.takes_positions:
        arguments["position_ids"] = torch.arange(start, start + ids.shape[1], device=ids.device)[
            None
        ]
    cache = DynamicCache()
    runner.model(input_ids=ids, past_key_values=cache, use_cache=True, **arguments)
    return [layer.keys[0].clone() for layer in cache.layers]


def _first_layer_keys_behind(runner: ModelRunner, ids: Tensor, distance: int) -> Tensor:
    """The first layer's keys with other tokens really before them: these depend on position only.

    It catches models that count positions themselves, whatever they are told.
    """
    filler = ids[:, :1].expand(-1, distance)
    cache = DynamicCache()  # of full layers, whatever the config says of windows
    runner.model(input_ids=torch.cat([filler, ids], dim=1), past_key_values=cache, use_cache=True)
    keys: Tensor = cache.layers[0].keys
    return keys[0, :, -ids.shape[1] :]


def _candidates(model: PreTrainedModel) -> Iterator[Rotation | None]:
    """Every way a key of the model could move: not at all, or by any rotary table that it holds.

    The rotary dimensions are a key's first, or its last.
    """
    yield None
    seen: list[Tensor] = []
    for frequencies in _frequencies(model):
        if any(f.shape == frequencies.shape and f.equal(frequencies) for f in seen):
            continue
        seen.append(frequencies)
        for last in (False, True):
            for interleaved in (False, True):
                yield Rotation(frequencies, interleaved, last)


def _frequencies(model: PreTrainedModel) -> Iterator[Tensor]:
    for name, buffer in model.named_buffers():
        if name.endswith("inv_freq") and buffer.ndim == 1:
            yield buffer.detach().float()
    for module in model.modules():
        table = getattr(module, "embed_positions", None)
        if isinstance(table, Tensor) and table.ndim == 2 and table.shape[0] > 1:
            sine, cosine = table[1].detach().float().chunk(2)
            yield torch.atan2(sine, cosine)


def _values_of(name: str, value: Any) -> Iterator[Any]:
    """Every value under `name` in a nested configuration."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == name and not isinstance(inner, Mapping):
                yield inner
            else:
                yield from _values_of(name, inner)


def _original_window(config: Any) -> int:
    window = getattr(config.get_text_config(), "original_max_position_embeddings", None)
    named = _values_of("original_max_position_embeddings", config.to_dict())
    return min([int(w) for w in (window, *named) if w] or [_named_window(config) or 1 << 30])


def _relative(got: Tensor, expected: Tensor) -> float:
    """The root mean square of the difference, in units of that of the expected values."""
    difference = (got.float() - expected.float()).norm() / expected.float().norm().clamp_min(1e-12)
    return float(difference.nan_to_num(float("inf")))


def _tolerance(dtype: torch.dtype) -> float:
    return 1e-3 if dtype in (torch.float32, torch.float64) else 0.1
