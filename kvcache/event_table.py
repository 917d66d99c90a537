"""The table of events: what can happen to a node that somebody may have to act on.

Here lives the name, the level and the sentence of each, and what to do about it, for the log, the docs and the tests. Never here:
the saying (``events``).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["EVENTS", "Event"]

_D, _I, _W, _E = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR


@dataclass(frozen=True, slots=True)
class Event:
    """A row of the table: ``text`` names the fields it shows in braces; ``advice`` is what to do, if anything."""

    name: str
    logger: str
    level: int
    text: str
    advice: str = ""
    rarely: bool = False


_NODE, _CLUSTER, _PORT, _HTTP, _AUDIT = (
    *("kvcache.node", "kvcache.cluster", "kvcache.transport", "kvcache.http", "kvcache.audit"),
)
_SLOW_ADVICE: Final = (
    "Every other request waited meanwhile. Fewer keys at once, smaller values, or a machine with less to do."
)
_BUG_ADVICE: Final = "A bug: report it with the traceback."

EVENTS: Final[Mapping[str, Event]] = {
    row.name: row
    for row in (
        Event("node_serving", _NODE, _I, "node {node} serves cluster {cluster} at {address}"),
        Event("log_level_changed", _NODE, _W, "the log level is {to} now, by {by}"),
        Event(
            "taken_for_down",
            _NODE,
            _W,
            "the cluster took this node for down; pulling what it missed",
            "See stood_still, or the network.",
        ),
        Event(
            "stood_still",
            _NODE,
            _W,
            "this process stood still for {ms} ms; pulling what it missed",
            "Look for swapping, a paused machine, or no CPU left.",
        ),
        Event(
            "document_refused",
            _NODE,
            _E,
            "refused another document of epoch {epoch}: {document}",
            "Two clusters may share a name in one Redis.",
        ),
        Event(
            "place_taken_back", _NODE, _W, "the document has another life of {member}, which is gone; taking its place"
        ),
        Event("place_lost", _NODE, _E, "{reason}", "Give each node an id of its own, and stop the one too many."),
        Event("background_bug", _NODE, _E, "bug in a background task of the node", _BUG_ADVICE),
        Event("topology_adopted", _NODE, _D, "epoch {epoch}: {document}"),
        # What an epoch brought
        Event("member_joined", _CLUSTER, _I, "{member} joins at {address}"),
        Event("member_down", _CLUSTER, _W, "{member} is down", "Start it again, or remove it: kvcache admin remove."),
        Event("member_up", _CLUSTER, _I, "{member} is up"),
        Event("member_syncing", _CLUSTER, _I, "{member} pulls what it missed"),
        Event("member_leaving", _CLUSTER, _I, "{member} hands everything over and leaves"),
        Event("member_left", _CLUSTER, _I, "{member} has left the cluster"),
        Event("move_started", _CLUSTER, _I, "a move begins: {reason}"),
        Event("move_stage", _CLUSTER, _I, "the move comes to its stage {stage}: {reason}"),
        Event("move_finished", _CLUSTER, _I, "the move is finished: {reason}"),
        Event("purged", _CLUSTER, _I, "everything under the prefix {prefix} is gone"),
        Event("replicas_changed", _CLUSTER, _I, "each key has {copies} copies from now on"),
        # Coordination
        Event("controlling", _CLUSTER, _I, "this node controls the cluster now, fence {fence}"),
        Event("not_controlling", _CLUSTER, _D, "not controlling: {error}"),
        Event("document_unchanged", _CLUSTER, _W, "the document can't be changed: {error}"),
        Event("document_changed", _CLUSTER, _D, "epoch {epoch} follows {before}: {document}"),
        Event(
            "document_given_back",
            _CLUSTER,
            _W,
            "the coordinator had lost epoch {lost}; it was given epoch {epoch}",
            "Look why Redis lost data: persistence, failover, FLUSHALL.",
        ),
        Event(
            "document_ignored",
            _CLUSTER,
            _W,
            "{complaint}; keeping {document}",
            "Somebody else writes to this cluster's keys in Redis.",
        ),
        Event(
            "coordination_lost",
            _CLUSTER,
            _W,
            "{consequence}: {error}; trying again until it answers",
            "Data is served on; bring Redis back before the next change.",
        ),
        Event("coordination_back", _CLUSTER, _I, "coordination answers again after {failures} failed attempts"),
        Event(
            "clock_apart",
            _CLUSTER,
            _E,
            "the clock of {member} says {mine} where the coordinator's says {theirs}: {apart_ms} ms apart",
            "Run NTP or chrony everywhere. Nodes that are behind refuse writes, and records expire early or late.",
            rarely=True,
        ),
        Event(
            "heartbeat_damaged", _CLUSTER, _W, "ignored the damaged heartbeat of {member} in cluster {cluster}: {error}"
        ),
        Event("heartbeat_left", _CLUSTER, _I, "the heartbeat of {member} runs out by itself: {error}"),
        # Copies
        Event("receiving", _CLUSTER, _I, "move {move}: receiving {partitions} partitions"),
        Event("pull_failed", _CLUSTER, _I, "pulling {partitions} partitions from {source}: {error}"),
        Event("hints_withheld", _CLUSTER, _W, "{source} does not hand over what it keeps for us: {error}"),
        Event("handover_failed", _CLUSTER, _I, "handing over to {owner}: {error}"),
        Event("comparing_failed", _CLUSTER, _I, "comparing {partitions} partitions: {error}"),
        Event(
            "copies_compared", _CLUSTER, _I, "compared all that this node answers first for; {copied} records copied"
        ),
        # What peers do
        Event("slow_request", _PORT, _W, "{what} took {ms} ms", _SLOW_ADVICE, rarely=True),
        Event("request_bug", _PORT, _E, "bug in {verb}", _BUG_ADVICE),
        Event(
            "secrets_read",
            _PORT,
            _I,
            "read the secrets again: {secrets}",
        ),
        Event(
            "secrets_unusable",
            _PORT,
            _E,
            "the secrets have changed and are no good, so the old ones stay in use: {error}",
            "Correct the secret file; it is read again within a second.",
        ),
        Event(
            "without_tls",
            _PORT,
            _W,
            "{listen} speaks no TLS: everybody on the way can read what travels, bearer tokens included",
            "Set tls_certificate, or see that the network is nobody else's.",
        ),
        Event(
            "guess_refused",
            _PORT,
            _W,
            "refused {what} from {network}; {so_far} so far",
            "Somebody guesses, or a secret was changed in one place only.",
        ),
        Event("connection_overdue", _PORT, _W, "closed a connection: {reason}", rarely=True),
        Event(
            "connection_refused",
            _PORT,
            _W,
            "refused a connection: {why}",
            "Raise the limit (--max-connections, ulimit -n), or find who leaks them.",
            rarely=True,
        ),
        Event(
            "handshake_failed",
            _PORT,
            _W,
            "TLS handshake with {network} failed: {reason}",
            "A client with no certificate, a bad one, or none that speaks TLS; or ours is not taken there.",
            rarely=True,
        ),
        Event(
            "overloaded",
            _PORT,
            _W,
            "requests wait {late_ms} ms for their turn: shedding load",
            "More load than this node can carry: add nodes, or find who asks so much.",
            rarely=True,
        ),
        Event(
            "connections_clamped",
            _PORT,
            _W,
            "{wanted} connections do not fit into {descriptors} file descriptors; taking {room}",
            "Raise ulimit -n (LimitNOFILE of the systemd unit).",
        ),
        Event(
            "connection_foreign",
            _PORT,
            _W,
            "closed a connection that begins with byte {byte}: neither a message nor HTTP",
            rarely=True,
        ),
        Event("http_bug", _HTTP, _E, "{method} {path} failed", _BUG_ADVICE),
        Event("http_fault", _HTTP, _E, "{method} {path}: {error}", _BUG_ADVICE),
        # What operators do
        Event("operation_done", _AUDIT, _I, "{who}: {wish}, fence {fence}: done, epoch {epoch}"),
        Event("operation_refused", _AUDIT, _W, "{who}: {wish}, fence {fence}: refused: {error}"),
        Event(
            "repaired", _AUDIT, _I, "repair of {partitions} partitions: {compared} records compared, {copied} copied"
        ),
        Event("snapshot_written", _AUDIT, _I, "the snapshot {directory} is whole: {records} records, {bytes} bytes"),
        Event(
            "snapshot_left_over",
            _AUDIT,
            _W,
            "the snapshot {directory} is abandoned, and {left} could not be removed: {reason}",
            "Remove that directory by hand; nothing in it is of any use.",
        ),
        Event("snapshot_cleared", _AUDIT, _I, "removed {left}, which a snapshot that was killed had left"),
        Event("locked", _AUDIT, _I, "{owner} locks {resource} for {reason}, fence {fence}"),
    )
}
"""Every event, by its name."""
