"""Weather: what may happen to what is sent. Never here: when it happens (``wires``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["CLEAR", "Weather"]


@dataclass(frozen=True, slots=True)
class Weather:
    """What happens on the way between a client and a node; chances are for each thing sent. Times in seconds."""

    refuse: float = 0.0
    """Chance that a connection is refused."""
    drop: float = 0.0
    """Chance that the connection breaks before the node has read the request."""
    lose: float = 0.0
    """Chance that the connection breaks after the node has applied the request."""
    one_way: tuple[float, float] = (0.0001, 0.0005)
    """Least and longest time of travel in one direction."""
    stall: float = 0.0
    """Chance that the way takes ``stall_seconds`` more."""
    stall_seconds: float = 0.3


CLEAR: Final = Weather()
