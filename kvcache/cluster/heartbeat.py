"""Heartbeats: each living node says so again and again; who stops saying it is gone after a while.

Here lives where heartbeats are kept, and what is read back. Never here: when to beat, or what it means that a member fell
silent. ::

    kvcache:{cluster}:node:{id}    JSON of that node's own making; it expires when the node falls silent
    kvcache:{cluster}:nodes        sorted set: id -> when it falls silent, so that nodes can be found without a scan

What is read back is untrusted: whatever is not a small JSON object of a well-formed id is left out and logged.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

from kvcache.cluster.coordinator import Coordinator, checked_cluster
from kvcache.events import journal
from kvcache_client.placement.fields import NAME
from kvcache_client.placement.topology import MAX_MEMBERS
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS

__all__ = ["BODY_BYTES", "TTL_MS", "Heartbeats"]

BODY_BYTES: Final = 16 * 1024
"""Largest heartbeat, as JSON."""

TTL_MS: Final = (10, 3_600_000)
"""Shortest and longest time for which a heartbeat may count."""

_BEAT: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
return now
"""
"""Keys: node, nodes. Arguments: JSON, ms to live, id. Returns the server's time, ms since 1970."""

_ALIVE: Final = """
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local body = redis.pcall('GETRANGE', ARGV[1] .. id, 0, ARGV[3])
  if type(body) == 'table' then body = 'another type' end
  if body ~= '' then found[#found + 1] = {id, body} end
end
return found
"""
"""Key: nodes. Arguments: what the keys of nodes begin with, how many to list, the last byte of each to read.

A node that is gone has an empty body. So that damage costs neither memory nor the other nodes, it reads one byte over the
limit and no more, and takes a key of another type for damage, too.
"""

_FORGET: Final = """
redis.call('ZREM', KEYS[2], ARGV[1])
return redis.call('DEL', KEYS[1])
"""
"""Keys: node, nodes. Argument: id."""


class Heartbeats:
    """The heartbeats of one cluster. Every method raises ``ControlPlaneUnavailable`` when the server does not answer."""

    def __init__(
        self, coordinator: Coordinator, cluster: str, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._wall_ms = wall_ms
        self.coordinator = coordinator
        self.cluster = checked_cluster(cluster)
        self._prefix = f"kvcache:{cluster}:node:"
        self._index = f"kvcache:{cluster}:nodes"
        self._damaged: frozenset[str] = frozenset()

    async def beat(self, member_id: str, body: Mapping[str, Any], ttl_ms: int) -> None:
        """Say that the member lives, for ``ttl_ms`` from now; ``body`` must be JSON of at most ``BODY_BYTES``."""
        if type(ttl_ms) is not int or not TTL_MS[0] <= ttl_ms <= TTL_MS[1]:
            raise InvalidOption(f"ttl_ms is {ttl_ms!r:.80}; it must be an integer in {TTL_MS[0]}..{TTL_MS[1]}")
        key, data = self._key(member_id), _to_json(body)
        asked = self._wall_ms()
        theirs = await self.coordinator.ask("EVAL", _BEAT, 2, key, self._index, data, ttl_ms, member_id)
        self._compare_clocks(member_id, asked, theirs, self._wall_ms())

    def _compare_clocks(self, member_id: str, asked: int, theirs: int, answered: int) -> None:
        """Say so when this node's clock and the one that all nodes share are surely too far apart.

        The others refuse versions that are too far ahead of them, and records expire by the clock of whoever holds them: with
        every node within half of that of the server, no two are further apart than that.
        """
        apart = max(asked - theirs, theirs - answered)  # negative while the answer's time lies between the two
        if apart > MAX_CLOCK_OFFSET_MS // 2:
            journal.say("clock_apart", member=member_id, apart_ms=apart, mine=_moment(answered), theirs=_moment(theirs))

    async def alive(self) -> dict[str, dict[str, Any]]:
        """Return what each living member said last, by its id.

        The bodies are JSON objects, and that is all that is known about them: check each field before you use it.
        """
        found: list[list[bytes]] = await self.coordinator.ask(
            "EVAL", _ALIVE, 1, self._index, self._prefix, MAX_MEMBERS, BODY_BYTES
        )
        bodies, damaged = {}, {}
        for name, data in found:
            member_id = name.decode(errors="replace")
            try:
                bodies[_checked_id(member_id)] = _from_json(data)
            except (ValueError, RecursionError) as error:
                damaged[member_id] = error
        for member_id, reason in damaged.items():
            if member_id not in self._damaged:
                journal.say("heartbeat_damaged", member=f"{member_id:.80}", cluster=self.cluster, error=reason)
        self._damaged = frozenset(damaged)
        return bodies

    async def forget(self, member_id: str) -> bool:
        """Drop the member's heartbeat, as when it says goodbye; False when there was none."""
        return bool(await self.coordinator.ask("EVAL", _FORGET, 2, self._key(member_id), self._index, member_id))

    def _key(self, member_id: str) -> str:
        return self._prefix + _checked_id(member_id)

    def __repr__(self) -> str:
        return f"<Heartbeats of {self.cluster!r} at {self.coordinator.server}>"


def _moment(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")


def _checked_id(member_id: str) -> str:
    pattern, rule = NAME
    if type(member_id) is not str or pattern.fullmatch(member_id) is None:
        raise InvalidOption(f"the member id is {member_id!r:.80}; it must be {rule}")
    return member_id


def _to_json(body: Mapping[str, Any]) -> bytes:
    try:
        data = json.dumps(dict(body), allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidOption(f"a heartbeat must be a JSON object: {error}") from error
    if len(data) > BODY_BYTES:
        raise InvalidOption(f"a heartbeat of {len(data)} bytes is too large; the limit is {BODY_BYTES}")
    return data


def _from_json(data: bytes) -> dict[str, Any]:
    if len(data) > BODY_BYTES:
        raise ValueError(f"it is larger than {BODY_BYTES} bytes")
    body = json.loads(data, parse_constant=_refuse_constant)
    if type(body) is not dict:
        raise ValueError("it is no JSON object")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
