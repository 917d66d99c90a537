"""Balancing: which of the owners a read asks.

Here lives one small class for each policy. Never here: whether an owner may be asked at all (``reading`` leaves out those that
are avoided, or may lack this client's own writes), or measuring (``nodes``).

A policy is anything with ``choose``; it is called for each read, so it must be quick, and it must not raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, Protocol, runtime_checkable

from kvcache_client.core.nodes import NodeState
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.shown import shown

__all__ = ["DEFAULT", "POLICIES", "Balancing", "Owners", "States", "check_balancing", "make_balancing"]

Owners = tuple[str, ...]
"""The ids of the nodes that a read may ask, at least one; those that are well first, the primary before the others."""

States = Mapping[str, NodeState]
"""Node -> what is known of it; every owner is in it."""


@runtime_checkable
class Balancing(Protocol):
    """A policy."""

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return the one of ``owners`` to ask."""


_PREFERENCE: Final = 1.5
"""By how much the first of two may be the dearer one: small differences are noise, and what goes to one node goes together."""


class Primary:
    """Always the first owner: no balancing at all."""

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return the first."""
        return owners[0]


class RoundRobin:
    """One after the other."""

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return the next."""
        self._turn += 1
        return owners[self._turn % len(owners)]


class Random:
    """By chance; ``draw`` gives numbers from [0, 1)."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return any."""
        return owners[int(self._draw() * len(owners))]


class Weighted:
    """By chance, in proportion to the weights that the nodes have in the cluster."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return one; twice the weight, twice as often."""
        left = self._draw() * sum([nodes[owner].weight for owner in owners])
        for owner in owners:
            left -= nodes[owner].weight
            if left < 0:
                return owner
        return owners[-1]


class LeastResponseTime:
    """Of two owners the one that will probably answer first: the product of its average time and the requests that wait there.

    Two candidates are enough (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and the average is
    sensitive to peaks (``NodeState``). Where there are more than two owners, all pairs of them come up in turn.
    """

    def __init__(self) -> None:
        self._turn = 0

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return the cheaper of two."""
        if len(owners) == 2:
            first, second = owners
        elif len(owners) == 1:
            return owners[0]
        else:
            first, second = self._pair(owners)
        one, other = nodes[first], nodes[second]
        if one.ewma * (one.in_flight + 1) <= _PREFERENCE * other.ewma * (other.in_flight + 1):
            one.in_flight += 1
            return first
        other.in_flight += 1
        return second

    def _pair(self, owners: Owners) -> tuple[str, str]:
        self._turn += 1
        count = len(owners)
        start, step = self._turn % count, self._turn // count % (count - 1) + 1
        return owners[start], owners[(start + step) % count]


class NearestZone:
    """An owner in the client's own zone, if there is one; among several, the one that answers first."""

    def __init__(self, zone: str) -> None:
        self._zone = zone
        self._among = LeastResponseTime()

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return one that is near."""
        near = tuple([owner for owner in owners if nodes[owner].zone == self._zone])
        return self._among.choose(near or owners, nodes)


class Checked:
    """A caller's own policy, whose choice is not taken on trust."""

    def __init__(self, policy: Balancing) -> None:
        self._policy = policy

    def choose(self, owners: Owners, nodes: States) -> str:
        """Return what the policy says. Raises ``InvalidOption`` if that is no owner."""
        chosen = self._policy.choose(owners, nodes)
        if chosen not in owners:
            raise InvalidOption(
                f"balancing={shown(self._policy, 60)} chose {shown(chosen, 60)}, which is none of {owners}"
            )
        return chosen


DEFAULT: Final = "least_response_time"

POLICIES: Final[Mapping[str, Callable[[Callable[[], float], str], Balancing]]] = {
    "primary": lambda draw, zone: Primary(),
    "round_robin": lambda draw, zone: RoundRobin(),
    "random": lambda draw, zone: Random(draw),
    "weighted": lambda draw, zone: Weighted(draw),
    DEFAULT: lambda draw, zone: LeastResponseTime(),
    "nearest_zone": lambda draw, zone: NearestZone(zone),
}
"""Name -> what makes the policy, from a source of chance and the client's zone."""


def check_balancing(policy: object, zone: str) -> str | Balancing:
    """Return a policy or its name if it is one, or raise ``InvalidOption``."""
    if isinstance(policy, str):
        if policy not in POLICIES:
            raise InvalidOption(
                f"balancing={shown(policy, 60)}: must be one of {', '.join(POLICIES)}, or an object of your own"
            )
        if policy == "nearest_zone" and not zone:
            raise InvalidOption("balancing='nearest_zone' needs zone=: where this client is")
        return policy
    if isinstance(policy, type) or not isinstance(policy, Balancing):
        raise InvalidOption(
            f"balancing={shown(policy, 60)}: must be the name of a policy or an object with choose(owners, nodes)"
        )
    return policy


def make_balancing(policy: str | Balancing, draw: Callable[[], float], zone: str) -> Balancing:
    """Return the policy that a name stands for, or a caller's own."""
    checked = check_balancing(policy, zone)
    return POLICIES[checked](draw, zone) if isinstance(checked, str) else Checked(checked)
