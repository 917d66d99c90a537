"""Flights on virtual time: the counterpart of the bodies' own. A load that returns ``Taking`` takes that long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kvcache_client.core.effects import Load, Loaded, Parting, Share, Shared
from memory_network.calls import Call

if TYPE_CHECKING:
    from memory_network.sessions import MemorySession

__all__ = ["MemoryFlights", "Taking", "load"]


@dataclass(frozen=True)
class Taking:
    """What a load comes to after so many virtual seconds: a value, or an exception that it raises."""

    seconds: float
    value: Any = None


def load(session: MemorySession, effect: Load, then: Callable[[Loaded], None]) -> None:
    """Call the function."""
    try:
        result = effect.function()
    except Exception as error:
        result = error
    seconds, result = (result.seconds, result.value) if isinstance(result, Taking) else (0.0, result)
    loaded = Loaded(error=result) if isinstance(result, Exception) else Loaded(result)
    session.network.after(seconds, lambda: then(loaded))


@dataclass(eq=False)
class _Flight:
    until: float
    waiting: list[Callable[[Shared | None], None]] = field(default_factory=list)
    landed: bool = False


class MemoryFlights:
    """The computations under way in one session."""

    def __init__(self, session: MemorySession) -> None:
        self._session = session

    def share(self, share: Share, then: Callable[[Shared | None], None]) -> None:
        """Drive the plan, or wait for the call that does."""
        network, flights = self._session.network, self._session.brain.flights
        flight = flights.get(share.name)
        if flight is None or network.now >= flight.until:
            flight = flights[share.name] = _Flight(network.now + share.seconds)
            Call(self._session, share.plan(Parting()), lambda call: self._land(share.name, flight, call, then))
        elif not share.wait:
            then(None)
        else:
            waiting = flight.waiting
            waiting.append(then)
            network.after(
                flight.until - network.now, lambda: waiting.remove(then) or then(None) if then in waiting else None
            )

    def _land(self, name: bytes, flight: _Flight, call: Call, then: Callable[[Shared | None], None]) -> None:
        if self._session.brain.flights.get(name) is flight:
            del self._session.brain.flights[name]
        shared = Shared(error=call.error) if call.error is not None else Shared(call.result())
        then(shared._replace(mine=True))
        waiting, flight.waiting[:] = list(flight.waiting), []
        for other in waiting:
            other(shared)
