"""Locust's face of the shapes.

Here lives a ``LoadTestShape`` for each shape that moves, and the choice of one by its option: Locust itself would take the first
that it finds in a locustfile. Never here: the shapes (``shapes``).
"""

from __future__ import annotations

import time
from typing import Any

from locust import LoadTestShape

from loadtests.run.shapes import Share, day, ramp, spike, steps

__all__ = ["Day", "Ramp", "Shaped", "Spike", "Steps", "shape_of"]


class Shaped(LoadTestShape):
    """A shape over Locust's own --users, --spawn-rate and --run-time."""

    abstract = True
    use_common_options = True
    share: Share

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there should be now and how fast to get there; None ends the run."""
        if self.runner is None:
            return None
        options: Any = self.runner.environment.parsed_options
        gone = (time.perf_counter() - self.start_time) / float(options.run_time)
        if gone >= 1:
            return None
        full = int(options.num_users or 1)
        # With open arrivals the shape moves the rate; the users that serve it all stay.
        users = full if options.rate else max(round(full * type(self).share(gone)), 1)
        return users, float(options.spawn_rate or max(full, 1))


class Ramp(Shaped):
    """See ``ramp``."""

    share = staticmethod(ramp)


class Steps(Shaped):
    """See ``steps``."""

    share = staticmethod(steps)


class Spike(Shaped):
    """See ``spike``."""

    share = staticmethod(spike)


class Day(Shaped):
    """See ``day``."""

    share = staticmethod(day)


def shape_of(name: str) -> Shaped | None:
    """Return a new Locust shape, None for ``steady``, which needs none."""
    classes: dict[str, type[Shaped]] = {"ramp": Ramp, "steps": Steps, "spike": Spike, "day": Day}
    return classes[name]() if name in classes else None
