"""The figures of a node, gathered from its parts.

Here lives which counters STATS, ``/v1/stats`` and ``/metrics`` show, and under which names. Never here: counting.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvcache.node import Node

__all__ = ["describe_node"]


def describe_node(node: Node) -> dict[str, Any]:
    """Return the node's counters, in sections, fit for JSON."""
    ownership = node.service.ownership
    owned = ownership.routes.readers if ownership else ()
    me = node.options.id
    hints, fences = node.service.hints, node.service.fences
    member = ownership.topology.member(me) if ownership else None
    return {
        "node": {
            "id": me,
            "cluster": node.options.cluster,
            "address": node.options.advertise,
            "incarnation": node.incarnation,
            "version": version("kvcache"),
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - node.started, 3),
            "ready": node.ready(),
            "state": member.shown_state if member else "",
            "controlling": node.controller is not None and node.controller.controlling,
        },
        "store": asdict(node.store.statistics()),
        "stream": {
            **node.listener.counters.as_dict(),
            "connections": node.listener.connections,
            "hinted": hints.noted_count,
        },
        "topology": {
            "epoch": node.service.epoch,
            "members": len(ownership.topology.members) if ownership else 0,
            "partitions": sum(me in owners for owners in owned),
            "primaries": sum(owners[0] == me for owners in owned),
        },
        "hints": {
            "held": len(hints),
            "noted": hints.noted_count,
            "delivered": hints.delivered_count,
            "dropped": hints.dropped_count,
            "bytes": hints.used_bytes,
        },
        "loading": {
            "left": node.loader.left,
            "records": node.loader.syncing.records + node.loader.receiving.records,
            "bytes": node.loader.syncing.bytes + node.loader.receiving.bytes,
        },
        "fences": {"refused": fences.refused, **fences.highest},
    }
