"""Prefill: which positions are computed, and modules into their places in front of that."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from promptcache.kv import KV
from promptcache.layout import Layout, ModuleRun, Piece
from promptcache.model.arena import Arena
from promptcache.model.assembly import assemble_beside, assemble_here
from promptcache.model.overlap import Lane
from promptcache.model.owncache import OwnCache
from promptcache.model.runner import Traits


def positions_to_compute(
    layout: Layout, reused: Iterable[Piece], recomputed: Collection[int]
) -> list[int]:
    """New positions, recomputed ones, and always the last, whose logits are wanted; sorted."""
    kept = {position for piece in reused for position in range(piece.start, piece.stop)}
    kept.difference_update(recomputed)
    kept.discard(len(layout.ids) - 1)
    return [position for position in range(len(layout.ids)) if position not in kept]


def assemble(
    arena: Arena | OwnCache,
    traits: Traits,
    reused: Iterable[Piece],
    records: Mapping[ModuleRun, KV],
    earlier: KV | None = None,
    lane: Lane | None = None,
) -> None:
    """Move each reused piece's attention states to its place in the arena, and those of an
    `earlier` turn where they were; beside the forward, where there is a lane (see `assembly`).
    """
    moves = [(piece.start, _states(piece, records)) for piece in reused]
    if not moves and earlier is None:
        return
    assert isinstance(arena, Arena)
    rotations = traits.movement.rotations or (None,) * len(traits.layers)
    if lane is None:
        assemble_here(arena, moves, rotations, earlier)
    else:
        assemble_beside(arena, moves, rotations, earlier, lane)


def _states(piece: Piece, records: Mapping[ModuleRun, KV]) -> KV:
    """The attention states of a piece's tokens, as views."""
    assert piece.run is not None
    kv, stop = records[piece.run], piece.offset + len(piece.ids)
    return kv if (piece.offset, stop) == (0, kv.tokens) else kv.slice(piece.offset, stop)
