"""What a server counts, for Prometheus: requests, tokens by where they came from, times, bytes.

Nothing here says which namespace or which module it is about.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from promptcache.server.gate import Gate
from promptcache.server.visits import Visit
from promptcache.store import Store

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
PROVENANCES = ("exact", "approximate", "encoded", "recomputed", "new")


class Metrics:
    """The figures of one server."""

    def __init__(self, gate: Gate, store: Store) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "promptcache_requests", "Requests.", ["path", "status"], registry=registry
        )
        self.seconds = Histogram(
            "promptcache_request_seconds",
            "From the first byte of a request to the last of its response.",
            ["path"],
            buckets=SECONDS,
            registry=registry,
        )
        self._ttft = Histogram(
            "promptcache_ttft_seconds",
            "From a prompt to its first token, waiting for a place not included.",
            buckets=SECONDS,
            registry=registry,
        )
        self._prompt = Counter(
            "promptcache_prompt_tokens",
            "Prompt tokens by where their attention states came from.",
            ["provenance"],
            registry=registry,
        )
        self._output = Counter("promptcache_output_tokens", "Tokens of answers.", registry=registry)
        for name, said, value in (
            ("running", "Requests that have a place.", lambda: gate.running),
            ("waiting", "Requests that wait for a place.", lambda: gate.waiting),
            ("store_bytes", "Bytes that the store holds.", lambda: store.nbytes),
            ("store_budget_bytes", "Bytes that it never exceeds.", lambda: store.budget),
        ):
            Gauge(f"promptcache_{name}", said, registry=registry).set_function(value)

    def count(self, visit: Visit) -> None:
        """Count a request that has ended, and what it took if it was answered."""
        self.requests.labels(visit.route, str(visit.status)).inc()
        self.seconds.labels(visit.route).observe(visit.seconds)
        if (reply := visit.reply) is None:
            return
        self._ttft.observe(reply.ttft)
        for name in PROVENANCES:
            self._prompt.labels(name).inc(getattr(reply.usage, name))
        self._output.inc(reply.usage.output_tokens)

    def page(self) -> bytes:
        """All figures in Prometheus' text format."""
        return generate_latest(self._registry)
