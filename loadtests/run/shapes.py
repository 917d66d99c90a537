"""Shapes: how the load goes up and down over a run.

Here lives each shape, as a share of full load over a share of the run. Never here: Locust's face of it (``locust_shapes``), or
what full load is: a number of users, or with ``--rate`` a number of operations per second. ::

    steady  ________   ramp  ___/   steps  _-^   spike  __|^|__   day  night, morning, noon peak, evening
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

__all__ = ["SHAPES", "Share", "day", "ramp", "spike", "steady", "steps"]

Share = Callable[[float], float]
"""Share of the run gone, 0 to 1 -> share of full load, 0 to 1."""

_STEPS: Final = 5
_SPIKE_BASE: Final = 0.2
_NIGHT: Final = 0.1


def steady(gone: float) -> float:
    """Full load all the time."""
    return 1.0


def ramp(gone: float) -> float:
    """From nothing to full load in a straight line."""
    return gone


def steps(gone: float) -> float:
    """Five steps, each as long as the others: to see at which one latency leaves the ground."""
    return min(math.floor(gone * _STEPS) + 1, _STEPS) / _STEPS


def spike(gone: float) -> float:
    """A fifth of full load, and all of it in the middle fifth of the run."""
    return 1.0 if 0.4 <= gone < 0.6 else _SPIKE_BASE


def day(gone: float) -> float:
    """A day from midnight to midnight: least at 4 o'clock, most at 16 o'clock."""
    swing = (1 - math.cos(2 * math.pi * (gone - 4 / 24))) / 2
    return _NIGHT + (1 - _NIGHT) * swing


SHAPES: Final[Mapping[str, Share]] = {"steady": steady, "ramp": ramp, "steps": steps, "spike": spike, "day": day}
"""Name -> shape, as ``--shape`` takes them."""
