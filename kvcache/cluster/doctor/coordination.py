"""Checks of coordination: Redis or Valkey as the nodes see it, and the clocks that it lets them compare.

Here live functions from facts to signs. Never here: asking (``cluster.examination``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final
from urllib.parse import urlsplit

from kvcache.cluster.doctor.facts import Facts, Severity, Sign, figure, listed
from kvcache_client.protocol.version import MAX_CLOCK_OFFSET_MS

__all__ = ["access", "clocks", "eviction", "persistence", "reached", "release", "role"]

COORDINATOR: Final = "the coordinator"
OLDEST: Final = (6, 0)
"""Before it there are no users with rights of their own, and scripts repeat their commands on replicas."""


def clocks(facts: Facts) -> Iterator[Sign]:
    """The clocks that are furthest apart for certain, whatever the answers took on their way."""
    ahead = {COORDINATOR: (0.0, 0.0)}
    for id, seen in facts.coordinators():
        span = seen.get("ahead_ms")
        if isinstance(span, list | tuple) and len(span) == 2:
            ahead[id] = (float(span[0]), float(span[1]))
    worst = max(((_apart(ahead[a], ahead[b]), a, b) for a, b in combinations(ahead, 2)), default=None)
    if worst is None or worst[0] <= MAX_CLOCK_OFFSET_MS // 2:
        return
    apart, one, other = worst
    severity = Severity.ERROR if apart > MAX_CLOCK_OFFSET_MS else Severity.WARNING
    told = ", ".join(f"{id} {sum(span) / 2:+.0f}" for id, span in sorted(ahead.items()) if id != COORDINATOR)
    yield (
        severity,
        "",
        f"the clocks of {one} and {other} are {apart:.0f} ms apart (ahead of the coordinator's, in ms: {told})",
    )


def _apart(one: tuple[float, float], other: tuple[float, float]) -> float:
    return max(one[0] - other[1], other[0] - one[1], 0.0)


def reached(facts: Facts) -> Iterator[Sign]:
    """Nodes that can't reach it, and nodes that use another one."""
    for id, node in facts.told():
        if node.coordinator is not None and node.coordinator.get("error"):
            yield Severity.ERROR, id, str(node.coordinator["error"])
    lives: dict[str, list[str]] = {}
    for id, seen in facts.coordinators():
        if life := _info(seen).get("run_id"):
            lives.setdefault(str(life), []).append(id)
    if len(lives) > 1:
        yield Severity.ERROR, "", "nodes use different servers: " + "; ".join(map(listed, lives.values()))
    if len(facts.topology.members) > 1:
        for id, node in facts.told():
            if node.coordinator is None and "machine" in node.machine:
                yield Severity.ERROR, id, "runs without a coordinator"


def persistence(facts: Facts) -> Iterator[Sign]:
    """Whether the document outlives the server, and whether it can still write."""
    for server, seen in _servers(facts):
        info = _info(seen)
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status"):
            if info.get(name, "ok") != "ok":
                yield (
                    Severity.ERROR,
                    "",
                    f"{server}: {name} is {info[name]}, so it may refuse writes and forget the last ones",
                )
        if info.get("loading"):
            yield Severity.WARNING, "", f"{server} is still loading what it had stored"
        if info.get("aof_enabled") == 0 and seen.get("save") == "":
            yield (
                Severity.WARNING,
                "",
                f"{server} keeps nothing on disk: if it and all nodes stop at once, the cluster is founded anew",
            )


def eviction(facts: Facts) -> Iterator[Sign]:
    """Whether the server may throw the document out."""
    for server, seen in _servers(facts):
        policy, limit = _info(seen).get("maxmemory_policy"), figure(_info(seen), "maxmemory")
        if policy is not None and policy != "noeviction":
            severity = Severity.ERROR if limit else Severity.WARNING
            yield severity, "", f"{server}: maxmemory-policy is {policy}, so the topology or a lock may be thrown out"
        used = figure(_info(seen), "used_memory")
        if limit and used and used > 0.9 * limit:
            yield Severity.ERROR, "", f"{server} uses {used / limit:.0%} of its maxmemory, and then refuses writes"


def access(facts: Facts) -> Iterator[Sign]:
    """Who else may write there."""
    for server, seen in _servers(facts):
        parts = urlsplit(server)
        private = parts.scheme == "unix" or parts.hostname in ("localhost", "127.0.0.1", "::1")
        if seen.get("open"):
            severity = Severity.NOTE if private else Severity.ERROR
            yield severity, "", f"{server} serves everybody who reaches it, without a password"
        elif seen.get("user") == "default":
            yield Severity.NOTE, "", f"nodes are the user 'default' at {server}, who may do everything there"


def release(facts: Facts) -> Iterator[Sign]:
    """Servers that are too old."""
    for server, seen in _servers(facts):
        told = str(_info(seen).get("redis_version", ""))
        numbers = tuple(int(part) for part in told.split(".")[:2] if part.isdecimal())
        if len(numbers) == 2 and numbers < OLDEST:
            yield Severity.ERROR, "", f"{server} is Redis {told}; nodes need {'.'.join(map(str, OLDEST))} or later"


def role(facts: Facts) -> Iterator[Sign]:
    """Replicas, which take no writes."""
    for server, seen in _servers(facts):
        told = _info(seen).get("role", "master")
        if told != "master":
            yield Severity.ERROR, "", f"{server} is a {told}, which takes no writes"


def _info(seen: Mapping[str, Any]) -> Mapping[str, Any]:
    info = seen.get("info")
    return info if isinstance(info, Mapping) else {}


def _servers(facts: Facts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield each server once, as the first node sees it that names it so."""
    known: dict[str, Mapping[str, Any]] = {}
    for _, seen in facts.coordinators():
        known.setdefault(str(seen.get("server", "Redis")), seen)
    yield from known.items()
