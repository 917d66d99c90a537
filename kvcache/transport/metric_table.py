"""The table of metrics: what each number of a node is called, what it means, and what it must be equal to.

Here lives data that ``metrics``, the tests and whoever reads ``# HELP`` go by. Never here: counting, or rendering.

Names follow Prometheus: ``kvcache_`` section ``_`` name, base units, ``_total`` on counters. ``law`` is an equation between
numbers of its section that holds at every scrape (a name of another section has a dot; the sum of a histogram is how many it
has counted); the tests compute it from what a node
exports under load. What is not exported, such as ``gets``, is what clients have asked for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

__all__ = ["METRICS", "Kind", "Metric", "Place", "name_at"]

Place: TypeAlias = tuple[str, ...]
"""Where a number stands in ``statistics()``: section, name, and further names inside."""


class Kind(Enum):
    """How a number behaves over time."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """How the number at ``place`` is exported. With a ``label``, the names one level below ``place`` are its values."""

    place: Place
    kind: Kind
    meaning: str
    law: str = ""
    label: str = ""

    @property
    def name(self) -> str:
        """The metric's name, without the ``_total`` that counters get."""
        return name_at(self.place)

    @property
    def help(self) -> str:
        """What a scrape says of it."""
        return f"{self.meaning} {self.law}." if self.law else self.meaning


def name_at(place: Place) -> str:
    """Return the name of the metric at ``place``."""
    return "kvcache_" + re.sub(r"[^a-zA-Z0-9_]", "_", "_".join(place))


def _counter(section: str, name: str, meaning: str, law: str = "", label: str = "") -> Metric:
    return Metric((section, name), Kind.COUNTER, meaning, law, label)


def _gauge(section: str, name: str, meaning: str, law: str = "", label: str = "") -> Metric:
    return Metric((section, name), Kind.GAUGE, meaning, law, label)


def _histogram(section: str, name: str, meaning: str, law: str = "", label: str = "") -> Metric:
    return Metric((section, name), Kind.HISTOGRAM, meaning, law, label)


_RECORDS: Final = "records = created - deletions - expirations - evictions - dropped"
_GRAVES: Final = "tombstones = tombstones_made - tombstones_superseded - tombstones_forgotten - tombstones_dropped"
_READS: Final = "gets = hits + misses"
_HINTS: Final = "held = noted - delivered - dropped - forgotten"
_ANSWERS: Final = "sum(responses) = requests - in_flight - cut_off + malformed + late_heads"

METRICS: Final[Mapping[Place, Metric]] = {
    row.place: row
    for row in (
        _gauge("node", "uptime_seconds", "Seconds since the process began to serve."),
        _gauge(
            "node", "ready", "1 while the node has joined its cluster, holds all that is its own and is not stopping."
        ),
        _gauge("node", "controlling", "1 while this node keeps the topology document true. Over all nodes at most 1."),
        # Memory and what lies in it
        _gauge("store", "records", "Live records, and expired ones not reclaimed yet.", _RECORDS),
        _gauge("store", "tombstones", "Tombstones.", _GRAVES),
        _gauge(
            "store", "used_bytes", "Real memory of keys, records and all around them.", "tombstone_bytes <= used_bytes"
        ),
        _gauge("store", "budget_bytes", "Memory that the store may use at this moment."),
        _gauge("store", "tombstone_bytes", "Memory of tombstones.", "tombstone_bytes <= tombstone_budget_bytes"),
        _gauge("store", "tombstone_budget_bytes", "Memory that tombstones may use."),
        _counter(
            "store", "hits", "Reads that found a live record; incr, cas, add, replace and touch read first.", _READS
        ),
        _counter("store", "misses", "Reads that found nothing live.", _READS),
        _counter(
            "store",
            "misses_by_reason",
            "The misses by what the node remembers of the key.",
            "misses = sum(misses_by_reason)",
            label="reason",
        ),
        _counter("store", "created", "Values put where no live one was.", _RECORDS),
        _counter("store", "deletions", "Live values that a tombstone took away.", _RECORDS),
        _counter("store", "expirations", "Records reclaimed because their time was over.", _RECORDS),
        _counter("store", "evictions", "Live records thrown out for want of memory.", _RECORDS),
        _counter("store", "dropped", "Records that went with their whole partition.", _RECORDS),
        _counter("store", "tombstones_made", "Tombstones kept, by a delete or in place of an expired record.", _GRAVES),
        _counter(
            "store",
            "tombstones_superseded",
            "Tombstones replaced by a newer version, or gone with a partition.",
            _GRAVES,
        ),
        _counter("store", "tombstones_forgotten", "Tombstones whose own time was over.", _GRAVES),
        _counter("store", "tombstones_dropped", "Tombstones given up early because their budget was full.", _GRAVES),
        _gauge(
            "partitions",
            "records_largest",
            "Records in the fullest partition of its own.",
            "records_mean <= records_largest",
        ),
        _gauge("partitions", "records_mean", "Records per partition of its own, on average."),
        # The port
        _counter("stream", "accepted", "Connections ever accepted, of any kind.", "connections <= accepted"),
        _gauge("stream", "connections", "Connections open, HTTP included."),
        _counter(
            "stream",
            "refused",
            "Connections closed at once: too many were open, or their address guesses at secrets.",
            "refused <= accepted",
        ),
        _counter("stream", "handshakes_failed", "Connections whose TLS handshake failed."),
        _counter("stream", "crowded", "Connections closed because all together held too much."),
        _counter("stream", "shed", "Requests refused because what waited had waited too long; part of failed."),
        _gauge("stream", "partial_bytes", "Bytes of frames that are not complete."),
        _gauge("stream", "unread_bytes", "Bytes of replies that stalled clients have not taken."),
        _gauge("stream", "delayed", "Requests that wait for the coordinator or for other nodes."),
        _counter("stream", "secrets_refused", "Wrong secrets and bearer tokens that were sent."),
        _counter("stream", "foreign", "Connections closed because they began with neither a message nor HTTP."),
        _counter("stream", "malformed", "Connections closed for breaking the protocol."),
        _counter(
            "stream", "overdue", "Connections closed because HELLO, a frame or the reading of replies took too long."
        ),
        _counter("stream", "requests", "Requests of the stream protocol.", "failed <= requests"),
        _counter("stream", "failed", "Requests answered with an error; includes faults.", "faults <= failed"),
        _counter("stream", "faults", "Requests that met a bug; each has a traceback in the log.", "faults <= failed"),
        _counter(
            "stream",
            "hinted",
            "Records taken as a stand-in for owners that could not be reached.",
            "hinted = hints.noted",
        ),
        _counter(
            "requests", "slow", "Requests that held the event loop for longer than --slow-ms; each may be in the log."
        ),
        _histogram(
            "requests",
            "handling_seconds",
            "Time of the event loop that one request took. Of PING, GET, HEAD, PEEK and PUT a sample, of the others all.",
            label="verb",
        ),
        _histogram(
            "requests",
            "waiting_seconds",
            "From a request that needs the coordinator or another node to its reply.",
            label="verb",
        ),
        _histogram("loop", "lag_seconds", "How late the event loop was with a timer, looked at ten times a second."),
        _gauge("loop", "lag_largest_seconds", "The largest lag of the last ten seconds."),
        # The cluster as this node sees it
        _gauge("topology", "epoch", "Epoch of the topology in use. The same on all nodes but for a moment."),
        _gauge("topology", "members", "Members that the topology names."),
        _gauge("topology", "down", "Members that the topology says are down.", "down <= members"),
        _gauge("topology", "partitions", "Partitions that this node answers reads for."),
        _gauge(
            "topology",
            "primaries",
            "Partitions that this node answers first for. Their sum over all nodes = 16384.",
            "primaries <= partitions",
        ),
        _gauge("move", "running", "1 while partitions move between nodes."),
        _gauge(
            "move",
            "partitions_left",
            "Partitions that this node has still to receive.",
            "partitions_left <= partitions_promised",
        ),
        _gauge("move", "partitions_promised", "Partitions that the running move gives to this node."),
        _gauge("loading", "left", "Partitions that this node has still to pull, in a move or after it was away."),
        _gauge("loading", "records", "Records pulled in the present rounds of loading."),
        _gauge("loading", "bytes", "Bytes of keys and records pulled in the present rounds of loading."),
        _gauge("hints", "held", "Records held for owners that could not be reached.", _HINTS),
        _counter("hints", "noted", "Records taken for owners that could not be reached.", _HINTS),
        _counter("hints", "delivered", "Records handed over to their owners.", _HINTS),
        _counter(
            "hints", "dropped", "Records given up for want of memory; their partitions are compared instead.", _HINTS
        ),
        _counter("hints", "forgotten", "Records whose owner has left, or got them in another way.", _HINTS),
        _gauge("hints", "bytes", "Memory of what is held."),
        _counter("repair", "compared", "Records of differing partitions that were compared with another owner's."),
        _counter("repair", "copied", "Records that were copied because they differed."),
        _gauge("repair", "waiting", "Partitions that are still to be compared in the background."),
        _gauge("leases", "held", "Values that some client computes right now.", "held + filled + voided <= granted"),
        _gauge("leases", "waiting", "Clients that wait for such a value."),
        _counter("leases", "granted", "Computations that were asked for."),
        _counter("leases", "filled", "Computed values that came in time."),
        _counter("leases", "voided", "Computations whose key was written or deleted meanwhile."),
        _gauge("operations", "remembered", "Operations (incr, cas, ...) that would be recognised if they came again."),
        _counter("operations", "recognised", "Operations that came again and were not done again."),
        _counter("fences", "refused", "Commands of lock holders that had lost their lock without knowing."),
        _gauge("fences", "highest", "The highest fence seen of a lock.", label="resource"),
        _counter(
            "events", "said", "Events, those included that were not logged because there were too many.", label="event"
        ),
        # HTTP
        _gauge("http", "connections", "HTTP connections open.", "connections <= accepted"),
        _counter("http", "accepted", "HTTP connections ever opened."),
        _counter("http", "requests", "Requests with a whole, well-formed header.", _ANSWERS),
        _gauge("http", "in_flight", "Requests being served.", _ANSWERS),
        _gauge("http", "buffered_bytes", "Bytes of request bodies that are not complete yet."),
        _counter("http", "responses", "Answers by class of status.", _ANSWERS, label="status"),
        _counter("http", "malformed", "Requests that were not HTTP; answered with a 4xx and closed.", _ANSWERS),
        _counter("http", "shed", "Requests refused for load; part of the 5xx answers."),
        _counter("http", "late_heads", "Connections closed because a header was not complete in time.", _ANSWERS),
        _counter("http", "late_bodies", "Requests answered 408 because their body was not complete in time."),
        _counter("http", "late_readers", "Connections closed because the client did not take its reply."),
        _counter("http", "cut_off", "Requests that had no answer yet when a stop ran out of patience.", _ANSWERS),
        _histogram(
            "http",
            "serving_seconds",
            "From a whole header to the answer, the body and the owners of keys waited for.",
            "sum(serving_seconds) = requests - in_flight - cut_off",
            label="operation",
        ),
        _counter("http", "faults", "Requests answered 500, each with a traceback in the log; part of 5xx."),
    )
}
