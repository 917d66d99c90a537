"""Busy polling: whether a wait for an answer begins awake.

Here lives the decision, learned from whether it paid, for clients and nodes alike. Never here: sockets and loops, which do the
waiting (``bodies.awake``, and the node's ``transport.awake``), or giving a request up.

Who sleeps until an answer comes is woken late: some 5 us on a lightly idle core, 30 to 60 us in a virtual machine whose idle
core has gone back to its host; and a node nearby has answered by then. So a wait begins with asking again and again, for about
as long as a sleep costs. That takes at most twice as long as the best choice (Karlin et al., "Empirical studies of competitive
spinning for a shared-memory multiprocessor", SOSP 1991), and what did not pay is left alone: where nodes are far or cores are
scarce, nearly every wait sleeps at once.
"""

from __future__ import annotations

from typing import Final

__all__ = ["POLLING_SECONDS", "BusyPolling"]

POLLING_SECONDS: Final = 0.001
"""The longest that a wait may be told to stay awake."""

_MOST_LOSSES: Final = 8
"""From so many losses in a row on, one wait in 2^8 begins awake, to find out whether it pays again."""


class BusyPolling:
    """Whether the next wait on one connection begins awake, and for how many seconds; 0: none does."""

    __slots__ = ("_losses", "_rest", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._losses = 0
        self._rest = 0

    def begins(self) -> bool:
        """Say whether this wait begins awake; ``ended`` then has to be told how it went."""
        if self._rest:
            self._rest -= 1
            return False
        return self.seconds > 0

    def ended(self, paid: bool) -> None:
        """Learn whether the answer came while somebody was awake. Each loss in a row doubles the waits that sleep at once."""
        if paid:
            self._losses = 0
        else:
            self._losses = min(self._losses + 1, _MOST_LOSSES)
            self._rest = (1 << self._losses) - 1

    def __repr__(self) -> str:
        return (
            f"<BusyPolling {self.seconds * 1e6:.0f} us, losses in a row: {self._losses}, waits to sleep: {self._rest}>"
        )
