"""Axes: what is varied, over which values, while all else stands still.

Here lives that table. Never here: running a point (``load``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

__all__ = ["AXES", "Axis", "Point", "points"]

_HELD_BYTES: Final = 128 << 20
"""Large values come with fewer keys, so that keys and values never take more than this."""


@dataclass(frozen=True, slots=True)
class Point:
    """One load on one cluster."""

    nodes: int = 3
    replicas: int = 2
    value_bytes: int = 100
    tasks: int = 50
    keys: int = 10_000


@dataclass(frozen=True, slots=True)
class Axis:
    """One curve: the field of ``Point`` that is varied, and its values; ``quick`` are fewer."""

    field: str
    title: str
    values: tuple[int, ...]
    quick: tuple[int, ...]
    log: bool = False


AXES: Final = (
    Axis("nodes", "number of nodes", (1, 2, 3, 4, 5, 6), (1, 3)),
    Axis("replicas", "copies of each record", (1, 2, 3), (1, 3)),
    Axis("value_bytes", "bytes of a value", (16, 256, 4096, 65_536, 1 << 20), (16, 65_536), log=True),
    Axis("tasks", "tasks", (1, 3, 10, 30, 100, 300, 1000), (1, 100), log=True),
    Axis("keys", "number of keys", (1000, 10_000, 100_000, 1_000_000), (1000, 100_000), log=True),
)


def points(axis: Axis, *, quick: bool) -> Iterator[tuple[int, Point]]:
    """Yield each value of the axis with its point."""
    for value in axis.quick if quick else axis.values:
        point = replace(Point(), **{axis.field: value})
        keys = min(point.keys, _HELD_BYTES // point.value_bytes)
        yield value, replace(point, replicas=min(point.replicas, point.nodes), keys=keys)
