"""Many clients at once: every answer the one that a single client gets, every fault refused?"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event, Lock
from time import monotonic, perf_counter

import httpx

from promptcache.bench.rounds import check_count
from promptcache.bench.rows import Spread
from promptcache.bench.serving.process import ServerProcess
from promptcache.bench.serving.requests import SCHEMA, Documents, Question, malformed, questions
from promptcache.engine import PromptCache
from promptcache.errors import PromptCacheError
from promptcache.remote.engine import RemoteEngine

SAMPLED = 0.25
"""Seconds between two looks at the server's memory and queue."""
SHOWN = 5
"""Faults of a kind that a report shows."""


@dataclass(frozen=True, slots=True)
class Plan:
    """`clients` that ask for `seconds` over `documents`, and `malformed` requests among theirs.

    Raises OptionError for counts that make no sense.
    """

    model: str = "pocket"
    dtype: str = "float32"
    clients: int = 32
    seconds: float = 60.0
    documents: int = 200
    questions: int = 100
    malformed: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("clients", self.clients)
        check_count("questions", self.questions)
        check_count("documents", self.documents, least=3)
        check_count("malformed", self.malformed, least=0)


@dataclass(slots=True)
class Report:
    """What a load has shown. Times are in seconds, memory in bytes, samples in their order.

    `wrong` are answers that differ from those of one by one, `failed` errors, and `served` the
    malformed requests that were not refused in a sentence.
    """

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock, repr=False)

    @property
    def faultless(self) -> bool:
        """Whether every request was answered or refused as it has to be."""
        return bool(self.latencies) and not (self.wrong or self.failed or self.served)

    def answered(self, latency: float, ttft: float) -> None:
        """Count an answer."""
        with self._lock:
            self.latencies.append(latency)
            self.ttfts.append(ttft)

    def lines(self) -> Sequence[str]:
        """The report in sentences."""
        count = len(self.latencies)
        said = [
            f"{count:,} answers in {self.seconds:.1f} s ({count / self.seconds:.1f} a second), "
            f"{self.refused:,} malformed requests refused",
            f"{len(self.failed)} errors, {len(self.wrong)} answers other than one by one, "
            f"{len(self.served)} malformed requests not refused",
        ]
        if count:
            said += [
                f"latency, as clients see it: {_quantiles(self.latencies)}",
                f"time to the first token, without waiting for a place: {_quantiles(self.ttfts)}",
            ]
        if self.resident:
            said += [
                f"running: {_most(self.running)}; waiting: {_most(self.waiting)}",
                f"memory of the server: {_course(self.resident)}",
            ]
        for faults in (self.failed, self.wrong, self.served):
            said += faults[:SHOWN]
        return said


def run(plan: Plan) -> Report:
    """Load a server of its own process. Raises PromptCacheError where none can be started."""
    documents = Documents.made(plan.documents, plan.seed)
    asked = questions(documents, plan.questions, plan.seed + 1)
    expected = _one_by_one(plan, documents, asked)
    with ServerProcess(plan.model, ["--dtype", plan.dtype]) as server:
        engine = RemoteEngine(server.url)
        engine.add_schema(documents.schema)
        engine.cache_documents(documents.named, schema="load", progress=False)
        return loaded(server, engine, asked, expected, plan)


def _one_by_one(plan: Plan, documents: Documents, asked: Sequence[Question]) -> list[str]:
    """The answers of an engine in this process."""
    engine = PromptCache.from_pretrained(plan.model, dtype=plan.dtype)
    engine.add_schema(SCHEMA)
    engine.cache_documents(documents.named, schema="load", progress=False)
    return [question.asked(engine).text for question in asked]


def loaded(
    server: ServerProcess,
    engine: RemoteEngine,
    asked: Sequence[Question],
    expected: Sequence[str],
    plan: Plan,
) -> Report:
    """What came of the clients of a plan."""
    report, over = Report(), Event()
    begun = perf_counter()
    until = monotonic() + plan.seconds

    def client(number: int) -> None:
        rng = random.Random(f"{plan.seed} {number}")
        while monotonic() < until:
            which = rng.randrange(len(asked))
            since = perf_counter()
            try:
                reply = asked[which].asked(engine)
            except PromptCacheError as error:
                report.failed.append(f"question {which}: {error}")
                continue
            report.answered(perf_counter() - since, reply.ttft)
            if reply.text != expected[which]:
                report.wrong.append(
                    f"question {which}: {reply.text!r} instead of {expected[which]!r}"
                )

    watchers: Sequence[Callable[[], None]] = (
        lambda: _send_malformed(server.url, plan, report),
        lambda: _watch(server, report, over),
    )
    with ThreadPoolExecutor(plan.clients + len(watchers)) as threads:
        watching = [threads.submit(watcher) for watcher in watchers]
        clients = [threads.submit(client, number) for number in range(plan.clients)]
        for each in clients:
            each.result()
        report.seconds = perf_counter() - begun
        watching[0].result()
        over.set()
        watching[1].result()
    return report


def _send_malformed(url: str, plan: Plan, report: Report) -> None:
    """Send the malformed requests, spread over the time; each has to be refused in a sentence."""
    rng, begun = random.Random(plan.seed), monotonic()
    with httpx.Client(base_url=url, timeout=120) as client:
        for number in range(plan.malformed):
            ahead = number / plan.malformed * plan.seconds - (monotonic() - begun)
            if ahead > 0:
                Event().wait(ahead)
            wrong = malformed(rng)
            try:
                response = client.request(wrong.method, wrong.path, content=wrong.body)
                sentence = response.json()["error"]["message"]
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                report.served.append(f"{wrong}: {error!r}")
                continue
            if 400 <= response.status_code < 500 and len(sentence.split()) > 2:
                report.refused += 1
            else:
                report.served.append(f"{wrong}: {response.status_code} {sentence!r}")


def _watch(server: ServerProcess, report: Report, over: Event) -> None:
    """Look at the server's memory and queue now and then."""
    with httpx.Client(base_url=server.url, timeout=120) as client:
        while not over.wait(SAMPLED):
            page = client.get("/metrics").text
            for name, samples in (("running", report.running), ("waiting", report.waiting)):
                found = re.search(rf"^promptcache_{name} (\S+)$", page, re.M)
                samples.append(int(float(found[1])) if found else 0)
            report.resident.append(server.resident)


def _quantiles(values: Sequence[float]) -> str:
    ranked = sorted(values)
    named = (("median", 0.5), ("95 %", 0.95), ("99 %", 0.99))
    said = [f"{name} {1000 * ranked[int(q * (len(ranked) - 1))]:.0f} ms" for name, q in named]
    return ", ".join([*said, f"longest {1000 * ranked[-1]:.0f} ms"])


def _most(samples: Sequence[int]) -> str:
    spread = Spread.of(samples)
    return f"median {spread.median:.0f}, at most {max(samples)}"


def _course(samples: Sequence[int]) -> str:
    """The medians of four parts of the samples, in their order."""
    quarter = max(1, len(samples) // 4)
    parts = [samples[first : first + quarter] for first in range(0, 4 * quarter, quarter)]
    medians = [f"{Spread.of(part).median / 1e6:.0f}" for part in parts if part]
    return f"{', '.join(medians)} MB in four quarters of the time"
