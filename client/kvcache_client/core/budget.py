"""Budgets: how much a client may send beyond what it was asked for.

Here lives the token bucket behind retries and hedges. Never here: what is worth a token (the plans).

Retries multiply load just when there is too much of it; a budget that is a share of the requests keeps the sum bounded
("Handling Overload" in Beyer et al., *Site Reliability Engineering*, 2016; the shape is that of Finagle's ``RetryBudget``).
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["TokenBucket", "hedge_budget", "refusal_budget", "retry_budget"]


class TokenBucket:
    """Tokens for extra requests: ``share`` of those sent (0.1: one in ten), and ``per_second`` whatever is sent.

    At most ``burst`` are saved up. Threads may use it at the same time; a token that is lost or won by that does no harm.
    """

    __slots__ = ("_at", "_clock", "burst", "per_second", "refused", "share", "taken", "tokens")

    def __init__(self, clock: Callable[[], float], share: float, per_second: float, burst: float, start: float) -> None:
        self._clock = clock
        self._at = clock()
        self.share = share
        self.per_second = per_second
        self.burst = burst
        self.tokens = start
        self.taken = 0
        self.refused = 0

    def earn(self, requests: int) -> None:
        """Note that so many requests were sent, the extra ones among them."""
        # The extra ones earn too, so a little less each: x / (1 + x) of all is x of those that were asked for.
        self.tokens = min(self.burst, self.tokens + requests * self.share / (1.0 + self.share))

    def take(self, requests: int = 1) -> bool:
        """Take tokens for extra requests; False if there is none at all. What is missing is made up for later."""
        if self.per_second:
            now = self._clock()
            self.tokens = min(self.burst, self.tokens + (now - self._at) * self.per_second)
            self._at = now
        if self.tokens < 1.0:
            self.refused += 1
            return False
        self.tokens -= requests
        self.taken += requests
        return True

    def __repr__(self) -> str:
        return f"<TokenBucket {self.tokens:.1f}/{self.burst:g} taken={self.taken} refused={self.refused}>"


def retry_budget(clock: Callable[[], float]) -> TokenBucket:
    """Return the budget of repeated requests: a tenth of those asked for, and ten a second."""
    return TokenBucket(clock, 0.1, 10.0, burst=1000.0, start=20.0)


def hedge_budget(clock: Callable[[], float]) -> TokenBucket:
    """Return the budget of hedges: a twentieth of the requests."""
    return TokenBucket(clock, 0.05, 0.0, burst=100.0, start=1.0)


def refusal_budget(clock: Callable[[], float]) -> TokenBucket:
    """Return the budget of requests repeated because a node has too much to do: a twentieth, beside what retries may.

    Nothing grows with time here: many small clients, each with ten a second for nothing, would keep nodes overloaded.
    """
    return TokenBucket(clock, 0.05, 0.0, burst=10.0, start=3.0)
