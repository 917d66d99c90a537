"""Metrics: the node's counters for Prometheus.

Here lives the mapping from the counters that every part keeps anyway to named, typed, explained metrics, done when somebody
scrapes. Never here: counting; nothing in this file is touched by a request for a key.

A number is described by a row of ``metric_table``; one without a row is still exported, untyped, under the name of its place,
so that a new counter is never lost for want of a description. Text in the section ``node`` becomes the labels of
``kvcache_node_info``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from kvcache.transport.metric_table import METRICS, Kind, Metric, Place, name_at

__all__ = ["NodeMetrics"]

_FAMILIES: Final[Mapping[Kind, type[CounterMetricFamily] | type[GaugeMetricFamily]]] = {
    Kind.COUNTER: CounterMetricFamily,
    Kind.GAUGE: GaugeMetricFamily,
}


class NodeMetrics(Collector):
    """A collector that reads ``statistics`` whenever it is asked."""

    def __init__(self, statistics: Callable[[], Mapping[str, Any]]) -> None:
        self._statistics = statistics
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)
        ProcessCollector(registry=self._registry)  # resident memory, CPU seconds, open files: standard names

    def describe(self) -> Iterable[Family]:
        """Promise nothing: which metrics there are depends on the node. Keeps registering from collecting."""
        return ()

    def collect(self) -> Iterator[Family]:
        """Yield everything that ``statistics`` holds now."""
        statistics = self._statistics()
        info = {name: value for name, value in _section(statistics, "node").items() if isinstance(value, str)}
        if info:
            family = InfoMetricFamily("kvcache_node", "Which node this is, and of which cluster.")
            family.add_metric([], info)
            yield family
        yield from _families(statistics, ())

    def render(self, accept: str) -> tuple[str, bytes]:
        """Return (Content-Type, text) in the format that the Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return content_type, encode(self._registry)

    def __repr__(self) -> str:
        return f"<NodeMetrics described={len(METRICS)}>"


def _section(statistics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = statistics.get(name)
    return section if isinstance(section, Mapping) else {}


def _families(branch: Mapping[str, Any], above: Place) -> Iterator[Family]:
    for name, value in branch.items():
        place = (*above, str(name))
        metric = METRICS.get(place)
        if isinstance(value, Mapping):
            if metric is None:
                yield from _families(value, place)
            else:
                yield _family(metric, value if metric.label else {"": value})
        elif isinstance(value, int | float):
            yield _family(metric, {"": value}) if metric else _undescribed(place, value)


def _undescribed(place: Place, value: float) -> Family:
    return UnknownMetricFamily(name_at(place), f"{'.'.join(place)} of the node's statistics.", value)


def _family(metric: Metric, values: Mapping[str, Any]) -> Family:
    """Return a metric with one sample for each of ``values``, by the value of its label."""
    labels = [metric.label] if metric.label else []
    if metric.kind is Kind.HISTOGRAM:
        histogram = HistogramMetricFamily(metric.name, metric.help, labels=labels)
        for label, value in values.items():
            histogram.add_metric([label] if labels else [], list(value["buckets"].items()), value["sum"])
        return histogram
    family = _FAMILIES[metric.kind](metric.name, metric.help, labels=labels)
    for label, value in values.items():
        family.add_metric([label] if labels else [], value)
    return family
