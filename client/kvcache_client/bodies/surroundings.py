"""The real clocks and the real randomness, which the pure core takes as arguments.

Here lives the one place where the client reads time and draws lots.
"""

from __future__ import annotations

import os
import random
import socket
import time

from kvcache_client.core.brain import Surroundings

__all__ = ["real_surroundings", "who_am_i"]


def real_surroundings() -> Surroundings:
    """Return the clocks of this machine and the system's random numbers.

    Not the ``random`` module's shared generator: a program that seeds it must see no trace of us, and forked processes must
    not draw alike.
    """
    return Surroundings(time.monotonic, lambda: time.time_ns() // 1_000_000, random.SystemRandom().random)


def who_am_i(name: str) -> str:
    """Return how this process is told from others by people: host, process id and the name of its client, if it has one."""
    return f"{socket.gethostname()[:60]}/{os.getpid()}{f' {name[:60]}' if name else ''}"
