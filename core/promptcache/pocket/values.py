"""Values of facts: numbers, dates, times, everyday phrases, and names of others.

Every value is drawn for one side of the split; see `split.py` for what is hashed. This file
knows nothing about attributes or sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from promptcache.pocket import names
from promptcache.pocket.names import listed
from promptcache.pocket.split import Side, draw

ValueKind = Literal[
    "person", "town", "company", "year", "date", "time", "count", "thousands", "euros", "metres",
    "kilograms", "kilometres", "hours", "colour", "material", "food", "goods", "objects", "work",
    "subject", "animal",
]  # fmt: skip

MONTHS = listed(
    "January February March April May June July August September October November December"
)
COMPANY_FORMS = tuple(
    f"{{}} {noun}" for noun in listed("Works Mills Systems Foods Tools Motors Brothers Trading")
)

# Two lists per kind of phrase: the pair is the unit that is split between training and test.
PHRASES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "colour": (
        listed("dark pale bright deep light soft warm dusty smoky faded cool rich"),
        listed("red blue green yellow grey brown white black orange purple pink cream violet"),
    ),
    "material": (
        listed("brushed polished recycled cast welded pressed raw painted riveted hardened"),
        listed("steel oak brass copper granite aluminium bamboo iron concrete cork glass slate"),
    ),
    "food": (
        listed("smoked roasted pickled baked salted grilled honey spiced stewed candied"),
        listed("trout plums onions bread cheese pears beans lamb mushrooms apples carrots duck"),
    ),
    "goods": (
        listed("garden kitchen office factory marine railway medical winter farm camping"),
        listed("tools chairs pumps lamps sensors gloves boots filters ladders scales cables tents"),
    ),
    "objects": (
        listed("old painted carved rare wooden silver ceramic printed woven glass naval royal"),
        listed("maps clocks coins shoes keys masks bells boats toys bottles letters drums hats"),
    ),
    "work": (
        listed("marine garden bridge clock glass stage paper railway harbour music science film"),
        listed("engineer designer teacher historian inspector planner writer restorer painter"),
    ),
    "subject": (
        listed("ancient modern practical applied local early coastal urban rural northern"),
        listed("music history chemistry weaving poetry farming painting law geology cooking"),
    ),
    "animal": (
        listed("grey red white spotted golden striped black brown silver crested"),
        listed("heron fox owl otter hare swan falcon deer badger crow turtle goose"),
    ),
}


def _number(low: int, high: int, step: int = 1) -> Callable[[np.random.Generator], str]:
    choices = (high - low) // step

    def make(rng: np.random.Generator) -> str:
        return f"{low + step * int(rng.random() * choices):,}"

    return make


def _plain(low: int, high: int) -> Callable[[np.random.Generator], str]:
    return lambda rng: str(low + int(rng.random() * (high - low)))


def _day(rng: np.random.Generator) -> str:
    return f"{1 + int(rng.random() * 28)} {MONTHS[int(rng.random() * 12)]}"


def _clock(rng: np.random.Generator) -> str:
    return f"{6 + int(rng.random() * 17)}:{5 * int(rng.random() * 12):02d}"


def _phrase(kind: str) -> Callable[[np.random.Generator], str]:
    left, right = PHRASES[kind]

    def make(rng: np.random.Generator) -> str:
        return f"{left[int(rng.random() * len(left))]} {right[int(rng.random() * len(right))]}"

    return make


_YEAR = _plain(1700, 2025)
# How each simple kind is drawn, and what stands around the split unit in the value.
_SIMPLE: Mapping[str, tuple[Callable[[np.random.Generator], str], str]] = {
    "year": (_YEAR, "{}"),
    "time": (_clock, "{}"),
    "count": (_number(11, 1000), "{}"),
    "thousands": (_number(1000, 100_000, 10), "{}"),
    "euros": (_number(12, 5000), "{} euros"),
    "metres": (_number(12, 2000), "{} metres"),
    "kilograms": (_number(11, 900), "{} kilograms"),
    "kilometres": (_number(11, 900), "{} kilometres"),
    "hours": (_number(11, 400), "{} hours"),
    **{kind: (_phrase(kind), "{}") for kind in PHRASES},
}


def value(rng: np.random.Generator, kind: ValueKind, side: Side) -> str:
    """Return one value of `kind` whose split units all lie on `side`."""
    if kind == "person":
        return names.person(rng, side)
    if kind == "town":
        return names.word(rng, side)
    if kind == "company":
        return names.named(rng, side, COMPANY_FORMS)
    if kind == "date":
        return f"{draw(_day, rng, side)} {draw(_YEAR, rng, side)}"
    make, form = _SIMPLE[kind]
    return form.format(draw(make, rng, side))
