"""Looking at the cluster: its topology, its nodes' counters.

Here live the plans that change nothing and promise nothing about the data path. Never here: one key (``explaining``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import REFRESH, Outcome, Plan, Within
from kvcache_client.core.link import error_of
from kvcache_client.core.reading import as_error
from kvcache_client.placement.topology import Topology
from kvcache_client.protocol.errors import KvCacheError, MalformedFrame
from kvcache_client.protocol.verbs import Verb

__all__ = [
    "documents_of",
    "json_of",
    "newest_of",
    "newest_topology",
    "node_statistics",
    "read_topology",
    "topology",
]


def read_topology(reply: Outcome) -> Topology:
    """Return the document in a reply to TOPOLOGY. Raises the error that it is or carries, or ``TopologyError``."""
    if isinstance(reply, KvCacheError):
        raise reply
    error = error_of(reply)
    if error is not None:
        raise error
    if len(reply) < 4 or not isinstance(reply[3], bytes):
        raise MalformedFrame(f"not a reply to TOPOLOGY: {reply!r:.100}")
    return Topology.from_json(reply[3])


def newest_topology(brain: Brain) -> Plan[Topology | None]:
    """Ask the known members for their document and return the newest, or None if none answered."""
    view = brain.require_view()
    nodes = [node for node in view.addresses if node not in brain.down]
    brain.counters.refreshes += 1
    # Three are enough to outvote one that lags; asking all of a large cluster would make a herd of every change.
    start = int(brain.clock() * 1000) % max(len(nodes), 1)
    chosen = [*nodes[start:], *nodes[:start]][:3]
    if not chosen:
        return None
    return newest_of((yield from documents_of(chosen, brain.attempt)))


def newest_of(documents: Iterable[Topology]) -> Topology | None:
    """Return the newest of some documents, None if there is none."""
    return max(documents, key=lambda document: document.epoch, default=None)


def documents_of(nodes: Iterable[str], seconds: float) -> Plan[list[Topology]]:
    """Return the documents by which ``nodes`` go, of those that tell within so many seconds."""
    outcomes = yield Within([(node, [0, Verb.TOPOLOGY]) for node in nodes], seconds)
    return [document for document in map(_document, outcomes) if document is not None]


def _document(outcome: Outcome) -> Topology | None:
    try:
        return None if isinstance(outcome, KvCacheError) else read_topology(outcome)
    except KvCacheError:
        return None  # another node may do better; what is wrong with this one shows when it is asked for data


def topology(brain: Brain) -> Plan[Topology]:
    """Return the newest topology that can be learnt."""
    yield REFRESH
    return brain.require_view().topology


def node_statistics(brain: Brain) -> Plan[dict[str, dict[str, Any] | KvCacheError]]:
    """Return each member's counters, or why it did not tell."""
    nodes = list(brain.require_view().addresses)
    outcomes = yield [(node, [0, Verb.STATS]) for node in nodes]
    return {node: json_of(outcome, node, Verb.STATS) for node, outcome in zip(nodes, outcomes, strict=True)}


def json_of(outcome: Outcome, node: str, verb: Verb) -> dict[str, Any] | KvCacheError:
    """Return the JSON document that a node answered to ``verb``, or why there is none."""
    error = as_error(outcome, node, verb)
    if error is not None:
        return error
    document: dict[str, Any] = json.loads(outcome[2])  # type: ignore[index]  # as_error let only messages through
    return document
