"""Loop lag: how late the event loop is with what is due. What waits for the loop waits that long, whatever it is.

Here lives one timer and what it finds. Never here: what made the loop late.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from kvcache.histogram import LAG_SECONDS, Histogram

__all__ = ["LoopLag"]

_EVERY_SECONDS: Final = 0.1
_WINDOW: Final = 100
"""Looks over which the largest lag is kept: ten seconds, so that a scrape every ten misses none."""


class _Timer(Protocol):
    def cancel(self) -> None: ...


class LoopLag:
    """Measures one event loop. ``now`` and ``call_later`` are its clock and its timer."""

    def __init__(self, now: Callable[[], float], call_later: Callable[[float, Callable[[], None]], _Timer]) -> None:
        self.seconds = Histogram(LAG_SECONDS)
        self._now = now
        self._call_later = call_later
        self._timer: _Timer | None = None
        self._due = 0.0
        self._recent = [0.0] * _WINDOW
        self._place = 0

    def start(self) -> None:
        """Begin to measure."""
        self._due = self._now() + _EVERY_SECONDS
        self._timer = self._call_later(_EVERY_SECONDS, self._look)

    def stop(self) -> None:
        """End. Safe to call again."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        lag = max(0.0, self._now() - self._due)
        self.seconds.add(lag)
        self._recent[self._place] = lag
        self._place = (self._place + 1) % _WINDOW
        self.start()

    @property
    def largest(self) -> float:
        """Return the largest lag of the last seconds."""
        return max(self._recent)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"lag_seconds": self.seconds.as_dict(), "lag_largest_seconds": self.largest}

    def __repr__(self) -> str:
        return f"<LoopLag largest={self.largest:.4f} s {self.seconds!r}>"
