"""Back-off: how long to leave a node alone before it is tried again.

Here lives the arithmetic of waiting. Never here: a clock or a source of randomness (arguments), or who is retried.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from kvcache_client.core.kinds import NUMBER, check_kinds
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.shown import shown

__all__ = ["Backoff"]

_SECONDS: Final = 3600


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015), in seconds.

    Full jitter spreads the clients of a node that returns over the whole interval instead of letting them knock together.
    """

    first: float = 0.05
    longest: float = 2.0

    def __post_init__(self) -> None:
        check_kinds(self, {"first": NUMBER, "longest": NUMBER})
        for option, seconds in (("first", self.first), ("longest", self.longest)):
            if not 0 <= seconds <= _SECONDS:  # also false for NaN
                raise InvalidOption(f"{option}={shown(seconds)}: a back-off must be 0 to {_SECONDS} seconds")

    def delay(self, failures: int, random: Callable[[], float]) -> float:
        """Return the wait after ``failures`` (>= 1) failures in a row; ``random`` draws from [0, 1)."""
        ceiling = min(self.longest, self.first * 2.0 ** min(failures - 1, 30))
        # Never less than a tenth: a draw near zero would make this knock a busy loop.
        return ceiling * (0.1 + 0.9 * random())
