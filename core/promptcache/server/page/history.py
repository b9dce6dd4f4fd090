"""What each namespace asked lately, in bounded memory: requests, figures, and hits of modules.

For one event loop. Knows nothing of how it is shown.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from promptcache.reply import Reply
from promptcache.server.visits import Visit
from promptcache.store import PRIVATE
from promptcache.trace import Provenance, Trace

CHARACTERS = 1_000_000
"""Of prompts and answers that are kept for a namespace."""
SPAN = 200
"""Characters that a span counts as, beside its text."""
FIGURES = 120
"""Requests whose figures are kept."""
MODULES = 4096
"""Modules whose hits are counted; of more, those that were asked for last."""
API = "/v1/"
"""How the addresses begin that requests are counted of."""


@dataclass(frozen=True, slots=True)
class Figure:
    """What one request took: `ttft` in seconds, None where it failed; tokens of its prompt."""

    at: float
    ttft: float | None = None
    reused: int = 0
    tokens: int = 0


@dataclass(slots=True)
class Uses:
    """Requests that reused a module, and those that had to encode it."""

    hits: int = 0
    misses: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a namespace asked, as it is now, for other threads; its last request first."""

    figures: Sequence[Figure]
    visits: Sequence[Visit]
    under_way: Sequence[Visit]
    uses: Mapping[str, Uses]


class History:
    """What one namespace asked."""

    def __init__(self, recent: int) -> None:
        """At most `recent` requests are kept with their texts."""
        self._recent = recent
        self._visits: deque[tuple[Visit, int]] = deque()
        """Each with what its texts count as."""
        self._characters = 0
        self._uses: OrderedDict[str, Uses] = OrderedDict()
        self.figures: deque[Figure] = deque(maxlen=FIGURES)

    def add(self, visit: Visit) -> None:
        """Take in a request that has ended, in an answer or a failure."""
        reply = visit.reply
        if reply is None:
            self.figures.append(Figure(visit.at))
        else:
            usage = reply.usage
            figure = Figure(visit.at, reply.ttft, usage.reused_tokens, usage.input_tokens)
            self.figures.append(figure)
            self._count(reply)
            visit.reply = replace(reply, token_ids=())
            if characters_of(visit) > CHARACTERS:
                visit.reply = _without_texts(visit.reply)
        size = characters_of(visit)
        self._visits.append((visit, size))
        self._characters += size
        while len(self._visits) > self._recent or self._characters > CHARACTERS:
            self._characters -= self._visits.popleft()[1]

    @property
    def characters(self) -> int:
        """What the texts that are kept count as."""
        return self._characters

    def latest(self) -> Iterator[Visit]:
        """The requests that are kept, the last one first."""
        return (visit for visit, _ in reversed(self._visits))

    def visit(self, name: str) -> Visit | None:
        """The request of this name, if it is kept."""
        return next((visit for visit, _ in self._visits if visit.id == name), None)

    @property
    def uses(self) -> Mapping[str, Uses]:
        """How often modules were asked for, by their keys in the store."""
        return self._uses

    def __len__(self) -> int:
        return len(self._visits)

    def _count(self, reply: Reply) -> None:
        """Count each module of a prompt once, however many pieces it is in."""
        reused = (Provenance.EXACT, Provenance.APPROXIMATE, Provenance.RECOMPUTED)
        found: dict[str, bool] = {}
        for span in reply.trace:
            if span.key and not span.key.startswith(PRIVATE):
                found[span.key] = found.get(span.key, True) and span.provenance in reused
        for key, hit in found.items():
            uses = self._uses.setdefault(key, Uses())
            self._uses.move_to_end(key)
            uses.hits += hit
            uses.misses += not hit
        while len(self._uses) > MODULES:
            self._uses.popitem(last=False)


class Histories:
    """The histories of all namespaces, and the requests that are under way."""

    def __init__(self, recent: int) -> None:
        self._recent = recent
        self._of: dict[str, History] = {}
        self._open: dict[str, Visit] = {}

    def of(self, namespace: str) -> History:
        """The history of a namespace."""
        if namespace not in self._of:
            self._of[namespace] = History(self._recent)
        return self._of[namespace]

    def under_way(self, namespace: str) -> list[Visit]:
        """Its requests that have not ended, the first one first."""
        return [visit for visit in self._open.values() if visit.namespace == namespace]

    def snapshot(self, namespace: str) -> Snapshot:
        """What there is of a namespace now."""
        history = self.of(namespace)
        return Snapshot(
            tuple(history.figures),
            tuple(history.latest()),
            tuple(self.under_way(namespace)),
            dict(history.uses),
        )

    def begun(self, visit: Visit) -> None:
        """Take note of a request; whose it is will be known when its key was read."""
        if visit.path.startswith(API):
            self._open[visit.id] = visit

    def ended(self, visit: Visit) -> None:
        """Keep a request to the model that has ended, and whatever failed."""
        if self._open.pop(visit.id, None) is None or visit.namespace is None:
            return
        if visit.reply is not None or visit.error is not None or visit.status >= 400:
            self.of(visit.namespace).add(visit)


def characters_of(visit: Visit) -> int:
    """What the texts of a request count as."""
    told = sum(len(said or "") for said in (visit.error or {}).values())
    if visit.reply is None:
        return told
    trace = visit.reply.trace
    spans = sum(len(span.text) + len(span.note or "") + SPAN for span in trace)
    return told + len(visit.reply.text) + spans + sum(map(len, trace.warnings))


def _without_texts(reply: Reply) -> Reply:
    why = f"prompt and answer have more than {CHARACTERS:,} characters, and are not kept here"
    return replace(reply, text="", trace=Trace((), (why,)))
