"""What a cluster is asked in a simulation: documents by topic, few topics for most of the requests.

Plain numbers; the same for the same seed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from promptcache.errors import OptionError


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests that come by themselves, `rate` a second in the mean (a Poisson process).

    Each is about `each` documents: the first of a topic by Zipf's law with the exponent `zipf`,
    each other one of the same topic with the probability `together`, else of any. A topic has
    `topic` documents, all as likely. Raises OptionError for what cannot be drawn.
    """

    documents: int = 10_000_000
    topic: int = 20
    each: int = 5
    together: float = 0.8
    zipf: float = 1.0
    rate: float = 200.0

    def __post_init__(self) -> None:
        if not 1 <= self.each <= self.topic <= self.documents:
            raise OptionError(
                f"each={self.each}, topic={self.topic}, documents={self.documents}: expected at "
                "least one document in a request, as many in a topic, and as many in all"
            )
        if not (0 <= self.together <= 1 and self.zipf >= 0 and self.rate > 0):
            raise OptionError(
                f"together={self.together}, zipf={self.zipf}, rate={self.rate}: expected a "
                "probability, a number from 0 and one above 0"
            )

    def requests(self, seed: int = 0) -> Iterator[tuple[float, list[int]]]:
        """When each request comes, in seconds, and the numbers of its documents; without end."""
        rng = random.Random(seed)
        topics = self.documents // self.topic
        now = 0.0
        while True:
            now += rng.expovariate(self.rate)
            mine = self._topic(rng, topics)
            found: dict[int, None] = {}
            while len(found) < self.each:
                same = not found or rng.random() < self.together
                topic = mine if same else self._topic(rng, topics)
                found[topic * self.topic + rng.randrange(self.topic)] = None
            yield now, list(found)

    def _topic(self, rng: random.Random, topics: int) -> int:
        """A topic, by the continuous counterpart of Zipf's law: no table of millions is needed."""
        uniform = rng.random()
        if abs(self.zipf - 1) < 1e-9:
            rank = (topics + 1) ** uniform
        else:
            power = 1 - self.zipf
            rank = (((topics + 1) ** power - 1) * uniform + 1) ** (1 / power)
        return min(topics - 1, int(rank) - 1)
