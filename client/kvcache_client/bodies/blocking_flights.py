"""Flights of threads and greenlets: one computation of a value for all that want it at once.

Here lives running the caller's function and sharing what comes of it. Never here: when a value is computed (``core.computing``).

The first caller computes in its own thread, and the others wait. Only ``threading`` is used, so gevent can patch it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Ask, Load, Loaded, Parting, Plan, Share, Shared

__all__ = ["BlockingFlights", "load"]


def load(effect: Load) -> Loaded:
    """Call the function."""
    try:
        return Loaded(effect.function())
    except Exception as error:  # noqa: BLE001  # the caller's own code: whatever it raises is the outcome
        return Loaded(error=error)


class _Flight:
    __slots__ = ("landed", "shared", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.landed = threading.Event()
        self.shared: Shared | None = None


class BlockingFlights:
    """The computations under way in one session. ``ask`` sends a request and waits for its answer."""

    def __init__(self, brain: Brain, run: Callable[[Plan[Any]], Any], ask: Callable[[Ask], object]) -> None:
        self._brain = brain
        self._run = run
        self._ask = ask
        self._lock = threading.Lock()

    def share(self, share: Share) -> Shared | None:
        """Drive the plan, or wait for the call that does."""
        flights = self._brain.flights
        with self._lock:
            now = self._brain.clock()
            flight = flights.get(share.name)
            if flight is None or now >= flight.until:
                flight = flights[share.name] = _Flight(now + share.seconds)
                mine = True
            else:
                mine = False
        if mine:
            return self._fly(share, flight)
        if share.wait:
            flight.landed.wait(flight.until - now)
        shared: Shared | None = flight.shared
        return shared

    def _fly(self, share: Share, flight: _Flight) -> Shared:
        parting = Parting()
        try:
            flight.shared = Shared(self._run(share.plan(parting)))
        except Exception as error:  # noqa: BLE001  # it goes to every caller
            flight.shared = Shared(error=error)
        except BaseException:
            for node in parting.nodes:
                self._ask((node, parting.ask))
            raise
        finally:
            with self._lock:
                if self._brain.flights.get(share.name) is flight:
                    self._brain.flights.pop(
                        share.name, None
                    )  # whoever writes the key takes it out too, without the lock
            flight.landed.set()
        return flight.shared._replace(mine=True)

    def start_over(self) -> None:
        """After a fork: the parent's lock may have been held."""
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<BlockingFlights {len(self._brain.flights)}>"
