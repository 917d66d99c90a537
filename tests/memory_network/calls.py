"""Calls: plans on their way."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kvcache_client.core.effects import Plan

if TYPE_CHECKING:
    from memory_network.sessions import MemorySession

__all__ = ["Call"]


class Call:
    """A plan on its way. ``result`` returns or raises what it came to; times are virtual seconds."""

    def __init__(self, session: MemorySession, plan: Plan[Any], then: Callable[[Call], None] | None = None) -> None:
        self.began = session.network.now
        self.ended: float | None = None
        self.then = then
        self._session = session
        self._plan = plan
        self._value: Any = None
        self._error: Exception | None = None
        self.step(None)

    @property
    def done(self) -> bool:
        """Whether the plan has ended."""
        return self.ended is not None

    @property
    def took(self) -> float:
        """Seconds from its begin to its end."""
        return (self._session.network.now if self.ended is None else self.ended) - self.began

    @property
    def error(self) -> Exception | None:
        """The error that it ended with, if any."""
        return self._error

    def result(self) -> Any:
        """Return what the plan returned, or raise what it raised."""
        if not self.done:
            raise RuntimeError(f"{self!r} has not ended")
        if self._error is not None:
            raise self._error
        return self._value

    def step(self, outcome: Any) -> None:
        """Send the plan the outcome of its last effect and perform the next one."""
        try:
            effect = self._plan.send(outcome)
        except StopIteration as stop:
            self._end(stop.value, None)
        except Exception as error:
            self._end(None, error)
        else:
            self._session.perform(effect, self.step)

    def _end(self, value: Any, error: Exception | None) -> None:
        self._value, self._error = value, error
        self.ended = self._session.network.now
        if self.then is not None:
            self.then(self)

    def __repr__(self) -> str:
        state = "ended" if self.done else "under way"
        return f"<Call {state} after {self.took:.3f} s: {self._error or self._value!r:.80}>"
