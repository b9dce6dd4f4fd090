"""Invented words and the names made of them: places, people, organisations.

Names are built from syllables, so that there are far more of them than a small model could
remember and it has to read them in its context. Each word of a name is drawn from its own side
of the split. This file knows nothing about facts or documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from promptcache.pocket.split import Side, draw


def listed(text: str) -> tuple[str, ...]:
    """Return the words of `text`: a list that is easier to read and to keep."""
    return tuple(text.split())


FIRST = listed(
    "Ald Ar Bal Bel Ber Bran Bren Cal Car Cor Cres Dal Dar Del Dor Dun El Elm Fal Fen Fer Gal "
    "Gar Glen Gor Hal Har Hel Hol Il Jas Kar Kel Kes Kil Lan Lar Lin Lor Mal Mar Mel Mir Mor "
    "Nar Nel Nor Ol Or Os Pal Par Pel Pen Per Quin Ral Ras Rem Ros Sal San Sel Sil Sol Stan Tal "
    "Tar Tel Thor Tol Tor Ul Val Var Vel Ver Vor Wal Wes Wil Win Yar Zan Zel"
)
MIDDLE = ("", "", "", "a", "e", "i", "o", "an", "en", "er", "ing", "is", "or", "um", "and", "ap")
LAST = listed(
    "bach berg bost by combe croft dale den dine don dor fax field ford gate grove ham holm hurst "
    "ida ina ington kirk land lay leigh low mere mont more mouth nach ness nova pool port rada "
    "ria rick ridge rin rone rose sand set shaw stad stead stone thal tham thorpe ton vale vern "
    "via ville wald wall ward well wick wood worth zano zell"
)
GIVEN_FIRST = listed(
    "Ab Ad Al An Ar Be Bri Ca Ce Cla Da De Do E El Es Fa Fe Fi Ga Gre Ha He I Il In Ja Jo Ju Ka "
    "Ke Ki La Le Li Lo Lu Ma Me Mi Mo Na Ne Ni No O Ol Or Pa Pe Pi Ra Re Ri Ro Sa Se Si So Su Ta "
    "Te Ti To U Va Ve Vi Wa We Wi Ya Yo Za Ze"
)
GIVEN_LAST = listed(
    "bel bo bra cia da dan del din do dra drin fa la lan lena lia lin lio lo lu ma mar men mi mo "
    "na nah nek nel nia nita no nor ra ran ren ria rick rin ro rus sa san sha sil so sta ta tan "
    "tha thy tis to tte va van vin vo xa ya za"
)


def _pick(rng: np.random.Generator, parts: Sequence[str]) -> str:
    return parts[int(rng.random() * len(parts))]


def _word(rng: np.random.Generator) -> str:
    return _pick(rng, FIRST) + _pick(rng, MIDDLE) + _pick(rng, LAST)


def _given(rng: np.random.Generator) -> str:
    return _pick(rng, GIVEN_FIRST) + _pick(rng, GIVEN_LAST)


def word(rng: np.random.Generator, side: Side) -> str:
    """Return an invented word such as `Halvern`: a town, or the heart of another name."""
    return draw(_word, rng, side)


def person(rng: np.random.Generator, side: Side) -> str:
    """Return a person's name, such as `Mira Toldine`."""
    return f"{draw(_given, rng, side)} {draw(_word, rng, side)}"


def named(rng: np.random.Generator, side: Side, forms: Sequence[str]) -> str:
    """Return a name made by putting an invented word into one of `forms` (`the {} Museum`)."""
    return _pick(rng, forms).format(word(rng, side))
