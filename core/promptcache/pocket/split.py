"""Which names and values belong to training and which to the test.

The hash of a string decides, and nothing else: whoever makes a name or a value asks `side_of`
and keeps drawing until the string is on the side that is wanted. A string of the test side can
therefore never be drawn for training, whatever the seed, the order or the number of samples.

What is hashed is the smallest unit that a value is told apart by: every word of a name by itself
(`Halvern`, not `Halvern Museum`), every number as it is written, `12 March` and the year of a
date each, and a pair of everyday words (`pale green`) as a pair, since single everyday words are
too few to keep apart. This file knows nothing about what the strings mean.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import numpy as np

Side = Literal["train", "test"]

TEST_SHARE = 5  # one string in five belongs to the test


def side_of(unit: str) -> Side:
    """Return the side that `unit` (one word, number or pair) belongs to."""
    digest = hashlib.sha256(unit.encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") % TEST_SHARE == 0 else "train"


def draw(make: Callable[[np.random.Generator], str], rng: np.random.Generator, side: Side) -> str:
    """Draw from `make` until the string is on `side`."""
    while True:
        unit = make(rng)
        if side_of(unit) == side:
            return unit
