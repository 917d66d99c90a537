"""The figures of a node, gathered from its parts.

Here lives which counters STATS, ``/v1/stats`` and ``/metrics`` show, and under which names. Never here: counting, or what the
numbers mean (``transport.metric_table``).
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from kvcache.compiled import native
from kvcache.events import journal
from kvcache.service.ownership import Ownership

if TYPE_CHECKING:
    from kvcache.node import Node

__all__ = ["describe_node"]

_VERSION: Final = version("kvcache")


def describe_node(node: Node) -> dict[str, Any]:
    """Return the node's counters, in sections, fit for JSON."""
    ownership = node.service.ownership
    return {
        "node": _identity(node, ownership),
        "store": asdict(node.store.statistics()),
        "partitions": _balance(node, ownership),
        "stream": {
            **node.listener.counters.as_dict(),
            "connections": node.listener.connections,
            "secrets_refused": node.listener.guard.refused,
            "shed": node.listener.overload.shed,
            "partial_bytes": node.listener.holding.partial,
            "unread_bytes": node.listener.holding.unread,
            "delayed": node.listener.holding.delayed,
            "hinted": node.service.hints.noted_count,
        },
        "requests": node.listener.watch.as_dict(),
        "loop": node.loop_lag.as_dict(),
        "topology": _topology(node, ownership),
        "move": _move(node, ownership),
        **_outcomes(node),
        **_exchange(node),
        "events": journal.as_dict(),
    }


def _identity(node: Node, ownership: Ownership | None) -> dict[str, Any]:
    me = node.options.id
    member = ownership.topology.member(me) if ownership else None
    return {
        "id": me,
        "cluster": node.options.cluster,
        "address": node.options.advertise,
        "incarnation": node.incarnation,
        "version": _VERSION,
        "compiled": native is not None,
        "pid": os.getpid(),
        "uptime_seconds": round(time.monotonic() - node.started, 3),
        "ready": node.ready(),
        "state": member.shown_state if member else "",
        "controlling": node.controller is not None and node.controller.controlling,
    }


@lru_cache(maxsize=4)
def _shares(ownership: Ownership, me: str) -> tuple[tuple[int, ...], int]:
    """Return the partitions that a node answers for, and for how many it answers first: the same until the next epoch."""
    mine = tuple(partition for partition, reads in enumerate(ownership.readable) if reads)
    readers = ownership.routes.readers
    return mine, sum(readers[partition][0] == me for partition in mine)


def _balance(node: Node, ownership: Ownership | None) -> dict[str, float]:
    """Return how evenly records lie in the partitions that are this node's own."""
    # A small store keeps some partitions in one table: each then counts as having its part of it.
    tables, sharing = node.store.tables, node.store.sharing
    mine = _shares(ownership, node.options.id)[0] if ownership else ()
    records = [(len(tables[partition].main) + len(tables[partition].small)) / sharing for partition in mine]
    return {
        "records_largest": max(records, default=0),
        "records_mean": sum(records) / len(records) if records else 0.0,
    }


def _topology(node: Node, ownership: Ownership | None) -> dict[str, int]:
    members = ownership.topology.members if ownership else ()
    mine, primaries = _shares(ownership, node.options.id) if ownership else ((), 0)
    return {
        "epoch": node.service.epoch,
        "members": len(members),
        "down": sum(member.state == "down" for member in members),
        "partitions": len(mine),
        "primaries": primaries,
    }


def _move(node: Node, ownership: Ownership | None) -> dict[str, int]:
    receiving = node.loader.receiving
    return {
        "running": int(ownership is not None and ownership.topology.move is not None),
        "partitions_left": receiving.left,
        "partitions_promised": receiving.total,
    }


def _outcomes(node: Node) -> dict[str, Any]:
    """Return what this node computes nothing of, but has others compute once, and what it has not done twice."""
    leases, operations = node.service.leases, node.service.operations
    return {
        "leases": {
            "held": len(leases.held),
            "waiting": leases.waiting,
            "granted": leases.granted,
            "filled": leases.filled,
            "voided": leases.voided,
        },
        "operations": {"remembered": len(operations), "recognised": operations.recognised},
    }


def _exchange(node: Node) -> dict[str, Any]:
    """Return what goes on between this node and the others."""
    hints, fences, loader, repairer = node.service.hints, node.service.fences, node.loader, node.repairer
    return {
        "hints": {
            "held": len(hints),
            "noted": hints.noted_count,
            "delivered": hints.delivered_count,
            "dropped": hints.dropped_count,
            "forgotten": hints.forgotten_count,
            "bytes": hints.used_bytes,
        },
        "loading": {
            "left": loader.left,
            "records": loader.syncing.records + loader.receiving.records,
            "bytes": loader.syncing.bytes + loader.receiving.bytes,
        },
        "repair": {"compared": repairer.compared, "copied": repairer.copied, "waiting": repairer.waiting},
        "fences": {"refused": fences.refused, "highest": dict(fences.highest)},
    }
