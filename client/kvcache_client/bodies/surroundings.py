"""The real clocks and the real randomness, which the pure core takes as arguments.

Here lives the one place where the client reads time and draws lots.
"""

from __future__ import annotations

import random
import time

from kvcache_client.core.brain import Surroundings

__all__ = ["real_surroundings"]


def real_surroundings() -> Surroundings:
    """Return the clocks of this machine and the system's random numbers.

    Not the ``random`` module's shared generator: a program that seeds it must see no trace of us, and forked processes must
    not draw alike.
    """
    return Surroundings(time.monotonic, lambda: time.time_ns() // 1_000_000, random.SystemRandom().random)
