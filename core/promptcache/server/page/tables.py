"""Tables of the page: what there is, modules by size, tier and hits, and figures of requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from promptcache.bench.tables import duration, size
from promptcache.holdings import HeldModule
from promptcache.html import Html, element, joined
from promptcache.server.page.history import Figure, Uses
from promptcache.trace.terminal import short_name

NONE = Uses()
"""Of modules that no request has asked for yet."""
SHOWN = 100
"""Modules in the table; of more, it says how many."""
ORDERS = ("hits", "size", "name")
"""What modules may be ordered by; the first one unless another is asked for."""


def table(caption: str, heads: Mapping[str, bool], rows: Iterable[Sequence[str]]) -> Html:
    """A table whose rows are headed by their first cells; `heads` says which are of numbers."""
    numbers = list(heads.values())
    head = (
        element("th", name, scope="col", class_="pc-number" if number else "")
        for name, number in heads.items()
    )
    lines = (
        element(
            "tr",
            element("th", first, scope="row"),
            *(
                element("td", said, class_="pc-number" if number else "")
                for said, number in zip(rest, numbers[1:], strict=True)
            ),
        )
        for first, *rest in rows
    )
    return element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *head)),
        element("tbody", *lines),
    )


def modules_table(modules: Sequence[HeldModule], uses: Mapping[str, Uses], order: str) -> Html:
    """Modules that the store has: what they take in each tier, and how often they were reused."""
    said = f"{len(modules):,} modules" if len(modules) != 1 else "1 module"
    if len(modules) > SHOWN:
        said += f"; the first {SHOWN} by {order}"
    takes: dict[str, int] = {}
    for module in modules:
        for tier, nbytes in module.places.items():
            takes[tier] = takes.get(tier, 0) + nbytes
    if takes:
        said += f" ({_places(takes)})"
    heads = {"module": False, "encoded after": False, "tokens": True, "size by tier": False}
    rows = (
        (
            _called(module),
            module.context,
            f"{module.tokens:,}",
            _places(module.places) + (", pinned" if module.pinned else ""),
            f"{uses.get(module.key, NONE).hits:,}",
            f"{uses.get(module.key, NONE).misses:,}",
        )
        for module in _ordered(modules, uses, order)[:SHOWN]
    )
    return table(said, {**heads, "hits": True, "misses": True}, rows)


def figures_table(figures: Sequence[Figure]) -> Html:
    """What the charts show, the last request first."""
    rows = (
        (
            moment(figure.at),
            "failed" if figure.ttft is None else duration(figure.ttft),
            "" if figure.ttft is None else f"{figure.reused:,}",
            "" if figure.ttft is None else f"{figure.tokens:,}",
        )
        for figure in reversed(figures)
    )
    heads = {"when": False, "first token after": True, "reused": True, "prompt tokens": True}
    return table("The last requests", heads, rows)


def moment(seconds: float) -> Html:
    """A time since 1970; the script writes it as readers have their clocks."""
    when = datetime.fromtimestamp(seconds, UTC)
    return element("time", f"{when:%H:%M:%S} UTC", datetime=f"{when:%Y-%m-%dT%H:%M:%S.%fZ}")


def _ordered(
    modules: Sequence[HeldModule], uses: Mapping[str, Uses], order: str
) -> Sequence[HeldModule]:
    if order == "name":
        return modules
    if order == "size":
        return sorted(modules, key=lambda module: -max(module.places.values(), default=0))
    return sorted(modules, key=lambda module: -uses.get(module.key, NONE).hits)


def _called(module: HeldModule) -> Html:
    begins = element("span", f" {module.begins}…", class_="begins") if module.begins else ""
    return joined((short_name(module.name), begins))


def _places(places: Mapping[str, int]) -> str:
    return ", ".join(f"{tier} {size(nbytes)}" for tier, nbytes in places.items())
