"""All that changes on the page: what is now, charts, modules and the last requests, as markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import time

from promptcache.bench.tables import duration, size
from promptcache.holdings import HeldModule
from promptcache.html import Html, element, facts_table, joined
from promptcache.server.gate import Gate
from promptcache.server.page.charts import hit_rate, ttft
from promptcache.server.page.history import Snapshot
from promptcache.server.page.requests import requests_list
from promptcache.server.page.tables import figures_table, modules_table
from promptcache.store import Store
from promptcache.store.places import UNBOUNDED, tiers_of


@dataclass(frozen=True, slots=True)
class Shared:
    """What all namespaces of a server share."""

    gate: Gate
    store: Store


def overview(
    model: str,
    namespace: str,
    lately: Snapshot,
    modules: Sequence[HeldModule],
    *,
    order: str,
    shared: Shared | None,
) -> Html:
    """The parts of the page, each by the name of its place there.

    `shared` is None where it is not for this reader, since others have a part in it.
    """
    charts = (hit_rate(lately.figures), ttft(lately.figures))
    return joined(
        (
            _part("now", _now(model, namespace, lately, shared)),
            _part("charts", *charts),
            _part("figures", figures_table(lately.figures)),
            _part("modules", modules_table(modules, lately.uses, order)),
            requests_list(lately.visits),
        )
    )


def _part(name: str, *children: Html) -> Html:
    return element("div", *children, data_part=name)


def _now(model: str, namespace: str, lately: Snapshot, shared: Shared | None) -> Html:
    facts = {"model": model}
    if namespace:
        facts["namespace"] = namespace
    facts["under way"] = "no request"
    if lately.under_way:
        count = len(lately.under_way)
        longest = duration(max(time() - visit.at for visit in lately.under_way))
        facts["under way"] = f"{count} request{'s' * (count > 1)}, the longest for {longest}"
    if shared is not None:
        facts["queue"] = f"{shared.gate.running} run, {shared.gate.waiting} wait"
        facts["store"] = ", ".join(map(_filled, tiers_of(shared.store)))
    return facts_table(facts)


def _filled(tier: Store) -> str:
    """How full a tier is."""
    most = "" if tier.budget >= UNBOUNDED else f" of {size(tier.budget)}"
    return f"{tier.tier} {size(tier.nbytes)}{most}"
