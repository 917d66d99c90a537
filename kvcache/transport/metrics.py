"""Metrics: the node's counters for Prometheus.

Here lives the mapping from the counters that every part keeps anyway to named, typed, explained metrics, done when somebody
scrapes. Never here: counting; nothing in this file is touched by a request for a key.

A counter is described by a row of ``METRICS``; one without a row is still exported, untyped, under the name of its place, so
that a new counter is never lost for want of a description. Text in the section ``node`` becomes the labels of
``kvcache_node_info``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

__all__ = ["METRICS", "Metric", "NodeMetrics"]

Place: TypeAlias = tuple[str, ...]
"""Where a number stands in ``statistics()``: section, name, and further names inside."""

_Kind: TypeAlias = type[CounterMetricFamily] | type[GaugeMetricFamily]


@dataclass(frozen=True, slots=True)
class Metric:
    """How the number at ``place`` is exported. With a ``label``, the names one level below ``place`` are its values."""

    place: Place
    kind: _Kind
    help: str
    unit: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """The metric's name, without the ``_total`` that counters get."""
        return _name(self.place)


_C: Final = CounterMetricFamily
_G: Final = GaugeMetricFamily

METRICS: Final[Mapping[Place, Metric]] = {
    row.place: row
    for row in (
        Metric(("node", "uptime_seconds"), _G, "Seconds since the process began to serve."),
        Metric(("node", "ready"), _G, "1 while the node has joined its cluster and is not stopping."),
        Metric(
            ("store", "records"),
            _G,
            "Live records. records = created - deletions - expirations - evictions - dropped.",
        ),
        Metric(
            ("store", "tombstones"),
            _G,
            "Tombstones. tombstones = tombstones_made - tombstones_superseded - tombstones_forgotten"
            " - tombstones_dropped.",
        ),
        Metric(("store", "used_bytes"), _G, "Real memory of keys, records and all around them; holds tombstone_bytes."),
        Metric(("store", "budget_bytes"), _G, "Memory that the store may use. used_bytes <= budget_bytes."),
        Metric(("store", "tombstone_bytes"), _G, "Memory of tombstones. tombstone_bytes <= tombstone_budget_bytes."),
        Metric(("store", "tombstone_budget_bytes"), _G, "Memory that tombstones may use."),
        Metric(("store", "hits"), _C, "Reads that found a live record. gets = hits + misses."),
        Metric(("store", "misses"), _C, "Reads that found nothing live. gets = hits + misses."),
        Metric(("store", "created"), _C, "Values put where no live one was."),
        Metric(("store", "deletions"), _C, "Live values that a tombstone took away."),
        Metric(("store", "expirations"), _C, "Records reclaimed because their time was over."),
        Metric(("store", "evictions"), _C, "Live records thrown out for want of memory."),
        Metric(("store", "dropped"), _C, "Records that went with their whole partition."),
        Metric(("store", "tombstones_made"), _C, "Tombstones kept, by a delete or in place of an expired record."),
        Metric(
            ("store", "tombstones_superseded"),
            _C,
            "Tombstones replaced by a newer version, or gone with their partition.",
        ),
        Metric(("store", "tombstones_forgotten"), _C, "Tombstones whose own time was over."),
        Metric(("store", "tombstones_dropped"), _C, "Tombstones given up early because their budget was full."),
        Metric(("stream", "accepted"), _C, "Connections ever accepted, of any kind."),
        Metric(("stream", "connections"), _G, "Connections open, HTTP included."),
        Metric(("stream", "refused"), _C, "Connections closed because as many as may be were open."),
        Metric(("stream", "foreign"), _C, "Connections closed because they began with neither a message nor HTTP."),
        Metric(("stream", "malformed"), _C, "Connections closed for breaking the protocol."),
        Metric(
            ("stream", "overdue"),
            _C,
            "Connections closed because HELLO, a frame or the reading of replies took too long.",
        ),
        Metric(("stream", "requests"), _C, "Requests of the stream protocol. requests = answered + failed."),
        Metric(("stream", "failed"), _C, "Requests answered with an error; includes faults."),
        Metric(("stream", "faults"), _C, "Requests that met a bug; each has a traceback in the log."),
        Metric(("stream", "hinted"), _C, "Records taken as a stand-in for owners that could not be reached."),
        Metric(("topology", "epoch"), _G, "Epoch of the topology in use."),
        Metric(("topology", "members"), _G, "Members that the topology names."),
        Metric(("topology", "partitions"), _G, "Partitions that this node owns."),
        Metric(
            ("topology", "primaries"), _G, "Partitions that this node owns first. Their sum over all nodes = 16384."
        ),
        Metric(("http", "connections"), _G, "HTTP connections open."),
        Metric(("http", "accepted"), _C, "HTTP connections ever opened. closed = accepted - connections."),
        Metric(
            ("http", "requests"),
            _C,
            "Requests with a whole, well-formed header. answered = requests - in_flight - cut_off.",
        ),
        Metric(("http", "in_flight"), _G, "Requests being served."),
        Metric(("http", "buffered_bytes"), _G, "Bytes of request bodies that are not complete yet."),
        Metric(
            ("http", "responses"),
            _C,
            "Answers. Their sum = requests - in_flight - cut_off + malformed + late_heads.",
            label="status",
        ),
        Metric(("http", "malformed"), _C, "Requests that were not HTTP; answered with a 4xx and closed."),
        Metric(("http", "shed"), _C, "Requests refused for load; part of the 5xx answers."),
        Metric(("http", "late_heads"), _C, "Connections closed because a header was not complete in time."),
        Metric(("http", "late_bodies"), _C, "Requests answered 408 because their body was not complete in time."),
        Metric(("http", "late_readers"), _C, "Connections closed because the client did not take its reply."),
        Metric(("http", "cut_off"), _C, "Requests that had no answer yet when a stop ran out of patience."),
        Metric(("http", "faults"), _C, "Requests answered 500, each with a traceback in the log; part of 5xx."),
    )
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
                yield _labelled(metric, value)
        elif isinstance(value, int | float):
            yield _plain(metric, place, value)


def _plain(metric: Metric | None, place: Place, value: float) -> Family:
    if metric is None:
        return UnknownMetricFamily(_name(place), f"{'.'.join(place)} of the node's statistics.", value)
    return metric.kind(metric.name, metric.help, value)


def _labelled(metric: Metric, values: Mapping[str, Any]) -> Family:
    family = metric.kind(metric.name, metric.help, labels=[metric.label])
    for value_name, value in values.items():
        family.add_metric([str(value_name)], value)
    return family


def _name(place: Place) -> str:
    return "kvcache_" + re.sub(r"[^a-zA-Z0-9_]", "_", "_".join(place))
