"""The real clocks and the real randomness, which the pure core takes as arguments.

Here lives the one place where the client reads time and draws lots.
"""

from __future__ import annotations

import random
import time

from kvcache_client.core.brain import Surroundings

__all__ = ["real_surroundings"]


def real_surroundings() -> Surroundings:
    """Return the clocks of this machine and the process's random numbers."""
    return Surroundings(time.monotonic, lambda: time.time_ns() // 1_000_000, random.random)
