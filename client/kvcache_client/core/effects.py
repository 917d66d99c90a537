"""Effects: what a plan may ask of the body that drives it.

Here lives the vocabulary between plans and bodies. Never here: what a plan wants to achieve, or how a body does it.

A plan is a generator. It yields an effect, is sent the outcome, and returns its result::

    Ask      (node, request)              one request to one node        -> Outcome
    Round    [(node, request), ...]       all at once                    -> list[Outcome], in the same order
    Within   (round, seconds)             a round with less or more time than an attempt      -> list[Outcome]
    Watched  (round)                      a round of which each request may come to Slow      -> list[Outcome | Slow]
    Race     (slow ones, round)           go on waiting, beside other requests  -> list[Outcome | None], of both in order
    Load     (function)                   call the caller's own function -> Loaded
    Share    (name, plan, seconds, wait)  drive a plan, unless this process is at it under that name -> Shared or None
    Pause    (seconds)                    wait                           -> None
    REFRESH                               learn the newest topology      -> None (it may not have changed)

An outcome is the reply as it was read, or the error that took its place; a body never raises one into a plan. An Ask of GET,
and those of a Watched, may also come to ``Slow``: no answer after the usual time, the request still waits, and its plan may have
another node asked beside it. Ask and Round are a bare tuple and a bare list because every get and set makes one: a class of their
own costs 0.2 us.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, TypeVar

from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.verbs import Message, Request

__all__ = [
    *("Load", "Loaded", "Parting", "Share", "Shared"),
    *(
        "REFRESH",
        "Ask",
        "Effect",
        "Outcome",
        "Pause",
        "Plan",
        "Race",
        "Refresh",
        "Round",
        "Settled",
        "Slow",
        "Watched",
        "Within",
    ),
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


class Watched(NamedTuple):
    """A round that ends when all have an outcome, or those that have none have taken longer than their nodes usually do.

    The latter come to ``Slow``.
    """

    round: Round


class Race(NamedTuple):
    """Wait on for slow requests, and for others if some are given. It ends when one side has all its replies, and no error.

    What comes back is the outcome of each, the slow ones first; None for one that has none so far.
    """

    slow: Sequence[Slow]
    others: Round


class Within(NamedTuple):
    """A round whose requests are given up after ``seconds``."""

    round: Round
    seconds: float


class Load(NamedTuple):
    """Call a function of the caller's, and await what it returns if that is to be awaited."""

    function: Callable[[], Any]


class Loaded(NamedTuple):
    """What the function returned, or the exception that it raised."""

    value: Any = None
    error: Exception | None = None


class Parting:
    """What must still be said to ``nodes`` if a plan is broken off: its caller was cancelled, or its thread is to end."""

    __slots__ = ("ask", "nodes")

    def __init__(self) -> None:
        self.ask: Request = []
        self.nodes: tuple[str, ...] = ()


class Share(NamedTuple):
    """Drive a plan, or wait for what comes of the one that another call of this process drives under the same name.

    A call that has gone on for ``seconds`` is not waited for any more: the next one begins anew. None comes back where that
    time is over, where the other call was broken off, and at once where there is one and ``wait`` is False.
    """

    name: bytes
    plan: Callable[[Parting], Plan[Any]]
    seconds: float
    wait: bool = True


class Shared(NamedTuple):
    """What a shared plan returned or raised; ``mine`` if this call drove it."""

    value: Any = None
    error: Exception | None = None
    mine: bool = False


class Pause(NamedTuple):
    """Wait for ``seconds``."""

    seconds: float


class Refresh(NamedTuple):
    """Learn the newest topology that any node knows."""


REFRESH: Final = Refresh()

Effect: TypeAlias = Ask | Round | Within | Watched | Race | Load | Share | Pause | Refresh
# What is sent back depends on what was yielded, which a Generator's type can't say.
Plan: TypeAlias = Generator[Effect, Any, T]
