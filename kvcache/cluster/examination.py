"""Examination: what a coordinator says of itself, as facts.

Here lives asking it. Never here: what is good or bad about the answers (``checkup``).

A server may refuse INFO, CONFIG or ACL to the user that nodes are; what it does not tell is None.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from redis import exceptions

from kvcache.cluster.coordinator import Coordinator
from kvcache_client.protocol.errors import ControlPlaneUnavailable

__all__ = ["examine_coordinator", "fields_of"]

_POOLED: Final = 8
"""Connections that may have to be found out to be dead."""

_NUMBERS: Final = {"used_memory", "maxmemory", "aof_enabled", "loading", "uptime_in_seconds"}
_TEXTS: Final = {
    *("redis_version", "valkey_version", "server_name", "run_id", "role", "maxmemory_policy"),
    *("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"),
}


async def examine_coordinator(
    coordinator: Coordinator, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
) -> dict[str, Any]:
    """Return what can be learnt of the server; ``error`` is why nothing could be.

    ``ahead_ms`` are the least and the most that this node's clock may be ahead of the server's: the answer took its time.
    """
    facts: dict[str, Any] = {"server": coordinator.server, "error": None}
    try:
        asked = wall_ms()
        seconds, microseconds = await _ask(coordinator, "TIME")
        answered, theirs = wall_ms(), int(seconds) * 1000 + int(microseconds) // 1000
        facts["ahead_ms"] = [asked - theirs - 1, answered - theirs + 1]  # both clocks are cut to whole milliseconds
        facts["info"] = fields_of(await _unless_refused(coordinator, "INFO") or {})
        facts["save"] = await _setting(coordinator, "save")
        facts["user"] = _word(await _unless_refused(coordinator, "ACL", "WHOAMI"))
        facts["open"] = await _is_open(coordinator)
    except ControlPlaneUnavailable as error:
        facts["error"] = str(error)
    return facts


def fields_of(info: Any) -> dict[str, Any]:
    """Return what is of interest in an answer to INFO, which redis-py has parsed into a dictionary."""
    known = {name: value for name, value in info.items() if name in _NUMBERS | _TEXTS}
    return {name: value if name in _NUMBERS and isinstance(value, int) else str(value) for name, value in known.items()}


async def _ask(coordinator: Coordinator, *command: str) -> Any:
    """Ask; and again where a connection proves to be of the server's former life, which shows only when it is used."""
    for _ in range(_POOLED):
        try:
            return await coordinator.ask(*command)
        except ControlPlaneUnavailable as error:
            if not isinstance(error.__cause__, exceptions.ConnectionError):  # it refuses, or is silent
                raise
    return await coordinator.ask(*command)


async def _unless_refused(coordinator: Coordinator, *command: str) -> Any:
    """Return the answer to a command, or None when the server answers that we may not ask."""
    try:
        return await _ask(coordinator, *command)
    except ControlPlaneUnavailable as error:
        if error.detail is None:  # no answer at all
            raise
        return None


async def _setting(coordinator: Coordinator, name: str) -> str | None:
    answer = await _unless_refused(coordinator, "CONFIG", "GET", name)
    if isinstance(answer, dict):
        return _word(answer.get(name, answer.get(name.encode())))
    return _word(answer[1]) if isinstance(answer, list) and len(answer) == 2 else None


async def _is_open(coordinator: Coordinator) -> bool | None:
    """Say whether the server serves somebody without a password; None when it can't be told (TLS with certificates)."""
    stranger = Coordinator(coordinator.server, timeout=coordinator.timeout)
    try:
        await stranger.ask("PING")
    except ControlPlaneUnavailable as error:
        return False if isinstance(error.__cause__, exceptions.AuthenticationError) else None
    else:
        return True
    finally:
        with suppress(ControlPlaneUnavailable):
            await stranger.close()


def _word(answer: object) -> str | None:
    return answer.decode(errors="replace") if isinstance(answer, bytes) else None if answer is None else str(answer)
