"""The figures of several replicas as one page for Prometheus: each figure says whose it is.

Knows Prometheus' text format alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector


def joined(pages: Mapping[str, str]) -> bytes:
    """One page of the pages of replicas, by their names: the label `replica` is added."""
    families: dict[str, Metric] = {}
    for replica, page in pages.items():
        for found in text_string_to_metric_families(page):
            family = Metric(found.name, found.documentation, found.type)
            family = families.setdefault(found.name, family)
            for sample in found.samples:
                labels = {**sample.labels, "replica": replica}
                family.add_sample(sample.name, labels, sample.value)
    registry = CollectorRegistry()
    registry.register(_Collected(families.values()))
    return generate_latest(registry)


class _Collected(Collector):
    """Figures that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """All of them."""
        return self._families
