"""Descriptors: how many connections this process can really hold.

Here lives the arithmetic of RLIMIT_NOFILE. Never here: accepting (``transport.acceptor``).
"""

from __future__ import annotations

import resource
from typing import Final

from kvcache.events import journal

__all__ = ["SPARE_DESCRIPTORS", "room_for_connections"]

SPARE_DESCRIPTORS: Final = 64
"""What a node needs beside its clients: the log, Redis, the other nodes, a snapshot."""


def room_for_connections(wanted: int) -> int:
    """Return how many of ``wanted`` connections fit, the system's limit raised as far as it lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + SPARE_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    room = wanted if soft == resource.RLIM_INFINITY else min(wanted, max(1, soft - SPARE_DESCRIPTORS))
    if room < wanted:
        journal.say("connections_clamped", wanted=wanted, room=room, descriptors=soft)
    return room
