"""Fair shares: how much of the data each node should hold, by weight and under the limits of copies and zones.

Here lives exact arithmetic on weights, in fractions and integers, so that every machine gets the same numbers.
Never here: hashes, or which partition goes where (``ring``, ``bounded``).

A share is the part of all partitions that a node holds a copy of, from 0 to 1; the shares add up to the
replication factor. Shares follow the weights like water poured over a floor: a node fills up at 1 (one copy of
each partition is all it can hold), a zone at its quota, and the rest is shared by those that have room left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from kvcache_client.placement.spec import Node

__all__ = ["fair_shares", "point_gains", "zone_quota"]

_ONE: Final = 1 << 32
_FULLEST: Final = Fraction(19, 20)


def zone_quota(zones: Sequence[str], copies: int) -> int:
    """Return how many copies of a partition one zone may hold: 1 while there are zones enough.

    ``zones`` has the zone of each node. With fewer zones than copies it is the smallest number that works out.
    """
    sizes = Counter(zones).values()
    quota = 1
    while sum(min(quota, size) for size in sizes) < copies:
        quota += 1
    return quota


def fair_shares(nodes: Sequence[Node], copies: int, quota: int) -> list[Fraction]:
    """Return the share of each node when every partition has ``copies`` and a zone at most ``quota`` of them."""
    members: dict[str, list[int]] = {}
    for node in nodes:
        members.setdefault(node.zone, []).append(node.weight)
    levels: dict[str, Fraction] = {}
    left = Fraction(copies)
    while True:
        open_weights = [weight for zone, weights in members.items() if zone not in levels for weight in weights]
        level = _level(open_weights, left)
        full = [
            zone
            for zone, weights in members.items()
            if zone not in levels and _poured(weights, level) > min(quota, len(weights))
        ]
        if not full:
            break
        for zone in full:
            content = min(quota, len(members[zone]))
            levels[zone] = _level(members[zone], Fraction(content))
            left -= content
    return [min(Fraction(1), levels.get(node.zone, level) * node.weight) for node in nodes]


def _level(weights: Sequence[int], total: Fraction) -> Fraction:
    """Return the level at which ``min(1, level x weight)``, summed over ``weights``, is ``total``."""
    left = sum(weights)
    level = Fraction(0)
    for weight in sorted(weights, reverse=True):
        level = total / left
        if level * weight <= 1:
            return level
        total -= 1
        left -= weight
    return level


def _poured(weights: Sequence[int], level: Fraction) -> Fraction:
    return sum((min(Fraction(1), level * weight) for weight in weights), Fraction(0))


def point_gains(shares: Sequence[Fraction]) -> list[Fraction]:
    """Return by what factor the ring points of each node must grow, for nodes that no zone keeps apart.

    Taking the first k distinct nodes of a walk gives a heavy node less than its share: it can be taken only once.
    If points arrive at random with rate r, the node is among those seen by the time 1 with the probability
    1 - exp(-r); so a share s wants the rate -ln(1 - s), and the factor is that over s. Only ratios matter;
    the mean share has the factor 1, so equal nodes keep their points whoever joins.
    Source: Rosen, "Asymptotic theory for order sampling" (J. Stat. Planning and Inference, 1997).
    """
    mean = _rate_over_share(sum(shares, Fraction(0)) / len(shares))
    known = {share: Fraction(_rate_over_share(share), mean) for share in set(shares)}
    return [known[share] for share in shares]


def _rate_over_share(share: Fraction) -> int:
    """Return -ln(1 - share) / share, as the series 1 + s/2 + s^2/3 + ..., in units of 2^-32."""
    factor = int(min(share, _FULLEST) * _ONE)
    total, power, terms = 0, _ONE, 1
    while power:
        total += power // terms
        power = power * factor >> 32
        terms += 1
    return total
