"""Lock store: locks and fences as Redis keeps them, each step one Lua script.

Here live the keys, the scripts, and what they answer. Never here: waiting, renewing, or a clock (``lock``); the only time
that counts here is the server's. ::

    kvcache:{cluster}:lock:{resource}    hash: token, owner, doing, since, fence; it expires with the lease
    kvcache:{cluster}:locks              sorted set: resource -> end of the lease, so that locks can be listed without a scan
    kvcache:{cluster}:fence:{counter}    the last fence that was handed out; never expires

Resources are ``topology`` (short edits), ``job`` (long work), ``controller`` (the node that leads) and ``user:NAME``. Each
of the first three counts its fences alone; all users' locks share one counter, so that it does not grow with their names.

The next fence is one more than the counter and than ``floor``, the highest fence that the nodes have seen: a server that was
emptied or rolled back never hands out a number twice. The fence is what makes a lease safe (M. Kleppmann, "How to do
distributed locking", 2016): nodes refuse the work of a holder whose lease went to somebody else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from kvcache.cluster.coordinator import Coordinator, checked_cluster
from kvcache_client.protocol.errors import AdminBusy, InvalidOption
from kvcache_client.protocol.limits import LEASE_MS_MAX, LEASE_MS_MIN

__all__ = [
    "ADMIN_RESOURCES",
    "FENCE_MAX",
    "LEASE_MS",
    "TEXT_LENGTH",
    "USER_PREFIX",
    "Granted",
    "Held",
    "HeldLock",
    "LockStore",
]

ADMIN_RESOURCES: Final = ("topology", "job", "controller")
"""Resources with a fence counter of their own."""

USER_PREFIX: Final = "user:"
"""What the resources of users' locks begin with."""

LEASE_MS: Final = (LEASE_MS_MIN, LEASE_MS_MAX)
"""Shortest and longest lease."""

TEXT_LENGTH: Final = 256
"""Longest resource, token, owner and description, in characters."""

FENCE_MAX: Final = 2**53 - 2
"""Highest fence that can be followed by another: numbers in Lua are exact up to 2**53."""

LISTED_MAX: Final = 1000
"""How many locks one listing holds at most, so that it never blocks the server."""

_LAST_MS: Final = 253_402_300_799_000
"""The end of the year 9999; no later moment can be shown."""

_NOW: Final = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
"""

_ACQUIRE: Final = (
    _NOW
    + """
local token, lease, floor, resource = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[5]), ARGV[6]
local held = redis.call('HMGET', KEYS[1], 'token', 'owner', 'doing', 'since', 'fence')
if held[1] and held[1] ~= token then
  return {0, held[2], held[3], held[4], redis.call('PTTL', KEYS[1])}
end
local fence = held[1] and tonumber(held[5])
if not fence then
  local counter = redis.call('GET', KEYS[3])
  local last = tonumber(counter or '0')
  if not last or last < 0 or last > tonumber(ARGV[7]) or last ~= math.floor(last) then
    return redis.error_reply('DAMAGED ' .. KEYS[3] .. ' is no fence')
  end
  fence = math.max(last, floor) + 1
  redis.call('SET', KEYS[3], string.format('%.0f', fence))
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'token', token, 'owner', ARGV[3], 'doing', ARGV[4],
             'since', string.format('%.0f', now), 'fence', string.format('%.0f', fence))
end
redis.call('PEXPIRE', KEYS[1], lease)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
redis.call('ZADD', KEYS[2], now + lease, resource)
return {1, fence}
"""
)
"""Keys: lock, locks, counter. Arguments: token, lease in ms, owner, doing, floor, resource, highest valid counter."""

_RENEW: Final = (
    _NOW
    + """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[3])
return 1
"""
)
"""Keys: lock, locks. Arguments: token, lease in ms, resource."""

_RELEASE: Final = """
if redis.call('HGET', KEYS[1], 'token') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[2])
return 1
"""
"""Keys: lock, locks. Arguments: token, resource."""

_LIST: Final = """
local found = {}
for _, resource in ipairs(redis.call('ZRANGE', KEYS[1], 0, ARGV[2] - 1)) do
  local key = ARGV[1] .. resource
  local held = redis.call('HMGET', key, 'token', 'owner', 'doing', 'since', 'fence')
  if held[1] then
    found[#found + 1] = {resource, held[2], held[3], held[4], redis.call('PTTL', key), held[5]}
  end
end
return found
"""
"""Key: locks. Arguments: what the keys of locks begin with, how many to list. It leaves the tokens out."""


@dataclass(frozen=True, slots=True)
class Granted:
    """The lock is yours until the lease ends; ``fence`` goes with each command that you send under it."""

    fence: int


@dataclass(frozen=True, slots=True)
class Held:
    """Somebody else holds the lock. ``since_ms`` is by the server's clock, in ms since 1970."""

    owner: str
    doing: str
    since_ms: int
    lease_left_ms: int

    def busy(self, resource: str) -> AdminBusy:
        """Return the error for a caller who will not wait any longer."""
        since = datetime.fromtimestamp(self.since_ms / 1000, UTC).isoformat(timespec="seconds")
        return AdminBusy(
            f"the lock {resource!r} is held by {self.owner or 'an unnamed owner'} since {since}: "
            f"{self.doing or 'it does not say what for'} (its lease has {self.lease_left_ms} ms left)",
            detail=self.lease_left_ms,
        )


@dataclass(frozen=True, slots=True)
class HeldLock:
    """One line of the list of locks. Times in ms, ``since_ms`` since 1970 by the server's clock."""

    resource: str
    owner: str
    doing: str
    since_ms: int
    lease_left_ms: int
    fence: int


class LockStore:
    """The locks of one cluster.

    ``token`` is the holder's secret: it proves that a lock is its own, so no two acquisitions may share one. Every
    method raises ``ControlPlaneUnavailable`` when the server does not answer (the step may have been taken; each can be
    repeated) and ``InvalidOption`` for a value out of its limits.
    """

    def __init__(self, coordinator: Coordinator, cluster: str) -> None:
        self.coordinator = coordinator
        self.cluster = checked_cluster(cluster)
        self._prefix = f"kvcache:{cluster}:"
        self._index = f"{self._prefix}locks"

    async def acquire(
        self, resource: str, token: str, lease_ms: int, owner: str, doing: str, floor: int = 0
    ) -> Granted | Held:
        """Take the lock for ``lease_ms``, with a fence above ``floor``, unless another token holds it.

        Again with the token that holds it (the reply was lost), it is granted with the same fence and a whole lease.
        """
        _check_text("owner", owner, empty=True)
        _check_text("doing", doing, empty=True)
        _check_integer("floor", floor, 0, FENCE_MAX - 1)
        keys = [*self._keys(resource, token, lease_ms), f"{self._prefix}fence:{_counter(resource)}".encode()]
        texts = owner.encode(), doing.encode()
        reply = await self.coordinator.ask(
            "EVAL", _ACQUIRE, 3, *keys, token, lease_ms, *texts, floor, resource.encode(), FENCE_MAX - 1
        )
        if reply[0]:
            return Granted(int(reply[1]))
        return Held(_shown(reply[1]), _shown(reply[2]), _number(reply[3], _LAST_MS), max(0, reply[4]))

    async def renew(self, resource: str, token: str, lease_ms: int) -> bool:
        """Begin a new lease of ``lease_ms``; False when this token does not hold the lock (any more)."""
        keys = self._keys(resource, token, lease_ms)
        return bool(await self.coordinator.ask("EVAL", _RENEW, 2, *keys, token, lease_ms, resource.encode()))

    async def release(self, resource: str, token: str) -> bool:
        """Let go of the lock; False when this token does not hold it (any more)."""
        keys = self._keys(resource, token, LEASE_MS[0])
        return bool(await self.coordinator.ask("EVAL", _RELEASE, 2, *keys, token, resource.encode()))

    async def locks(self, limit: int = LISTED_MAX) -> list[HeldLock]:
        """Return the locks that are held, the lease that ends first in front; at most ``limit`` of them."""
        _check_integer("limit", limit, 1, LISTED_MAX)
        found: list[list[Any]] = await self.coordinator.ask(
            "EVAL", _LIST, 1, self._index, f"{self._prefix}lock:", limit
        )
        return [
            HeldLock(
                _shown(resource), _shown(owner), _shown(doing), _number(since, _LAST_MS), max(0, left), _number(fence)
            )
            for resource, owner, doing, since, left, fence in found
        ]

    def _keys(self, resource: str, token: str, lease_ms: int) -> list[bytes]:
        _check_text("resource", resource)
        _check_text("token", token)
        _check_integer("lease_ms", lease_ms, *LEASE_MS)
        _counter(resource)
        return [f"{self._prefix}lock:{resource}".encode(), self._index.encode()]

    def __repr__(self) -> str:
        return f"<LockStore of {self.cluster!r} at {self.coordinator.server}>"


def _counter(resource: str) -> str:
    """Return the name of the counter that a resource takes its fences from."""
    if resource in ADMIN_RESOURCES:
        return resource
    if resource.startswith(USER_PREFIX) and len(resource) > len(USER_PREFIX):
        return "lock"
    raise InvalidOption(f"{resource!r} is no resource; it must be {', '.join(ADMIN_RESOURCES)} or {USER_PREFIX}NAME")


def _check_text(option: str, value: object, *, empty: bool = False) -> None:
    if type(value) is not str or len(value) > TEXT_LENGTH or not value.isprintable() or not (value or empty):
        raise InvalidOption(
            f"{option} is {value!r:.80}; it must be {0 if empty else 1} to {TEXT_LENGTH} printable characters"
        )


def _check_integer(option: str, value: object, low: int, high: int) -> None:
    if type(value) is not int or not low <= value <= high:
        raise InvalidOption(f"{option} is {value!r:.80}; it must be an integer in {low}..{high}")


def _shown(stored: bytes | None) -> str:
    """Return a stored text fit for a message: short and printable, whoever wrote it."""
    text = (stored or b"").decode(errors="replace")[:TEXT_LENGTH]
    return "".join(character if character.isprintable() else "?" for character in text)


def _number(stored: bytes | None, high: int = FENCE_MAX) -> int:
    """Return a stored number, 0 if it is none or out of range: it is only shown."""
    digits = stored or b""
    return min(int(digits), high) if digits.isdigit() and len(digits) < 20 else 0
