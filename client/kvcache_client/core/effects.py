"""Effects: what a plan may ask of the body that drives it.

Here lives the vocabulary between plans and bodies. Never here: what a plan wants to achieve, or how a body does it.

A plan is a generator. It yields an effect, is sent the outcome, and returns its result::

    Ask      (node, request)              one request to one node        -> Outcome
    Round    [(node, request), ...]       all at once                    -> list[Outcome], in the same order
    Within   (round, seconds)             a round with less or more time than an attempt      -> list[Outcome]
    Race     (slow, ask or None)          go on waiting, beside another request -> [Outcome | None, Outcome | None]
    Pause    (seconds)                    wait                           -> None
    REFRESH                               learn the newest topology      -> None (it may not have changed)

An outcome is the reply as it was read, or the error that took its place; a body never raises one into a plan. An Ask of GET
may also come to ``Slow``: no answer after the usual time, the request still waits, and its plan may have another node asked
beside it. Ask and Round are a bare tuple and a bare list because every get and set makes one: a class of their own costs 0.2 us.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.verbs import Message, Request

__all__ = [
    *("REFRESH", "Ask", "Effect", "Outcome", "Pause", "Plan", "Race", "Refresh", "Round", "Settled", "Slow", "Within"),
]

T = TypeVar("T")

Ask: TypeAlias = tuple[str, Request]
Round: TypeAlias = list[Ask]
Outcome: TypeAlias = Message | KvCacheError


class Settled(Protocol):
    """Who is told the outcome of a request."""

    def done(self) -> bool:
        """Say whether nobody waits any more."""

    def set_result(self, outcome: Any, /) -> object:
        """Take the outcome."""


class Slow:
    """No answer after ``waited`` seconds. Takes the place of whoever waited, and passes the answer on when it comes."""

    __slots__ = ("_then", "node", "origin", "outcome", "waited")

    def __init__(self, node: str, waited: float) -> None:
        self.node = node
        self.waited = waited
        self.origin: Any = None
        """Where the answer will come from, if a body has to remember that."""
        self.outcome: Outcome | None = None
        self._then: Settled | None = None

    def done(self) -> bool:
        """Say whether nobody waits any more."""
        return self.outcome is not None or (self._then is not None and self._then.done())

    def set_result(self, outcome: Outcome, /) -> None:
        """Take the answer that came after all, or the error in its place."""
        self.outcome = outcome
        if self._then is not None:
            self._then.set_result(outcome)

    def forward(self, then: Settled) -> None:
        """Pass the answer on to ``then``, at once if it is there."""
        self._then = then
        if self.outcome is not None:
            then.set_result(self.outcome)

    def __repr__(self) -> str:
        return f"<Slow {self.node} after {self.waited * 1000:.1f} ms: {self.outcome!r:.60}>"


class Race(NamedTuple):
    """Wait on for a slow request, and for another if one is given. It ends with the first reply that is no error.

    What comes back is a list of two: the outcome of each, None for one that has none so far, or was not asked.
    """

    slow: Slow
    ask: Ask | None


class Within(NamedTuple):
    """A round whose requests are given up after ``seconds``."""

    round: Round
    seconds: float


class Pause(NamedTuple):
    """Wait for ``seconds``."""

    seconds: float


class Refresh(NamedTuple):
    """Learn the newest topology that any node knows."""


REFRESH: Final = Refresh()

Effect: TypeAlias = Ask | Round | Within | Race | Pause | Refresh
# What is sent back depends on what was yielded, which a Generator's type can't say.
Plan: TypeAlias = Generator[Effect, Any, T]
