"""Watch: how long a node takes over requests, and which take too long.

Here lives the timing that the latency metrics are made of. Never here: the handling (``service``), or what is said of a
slow request (``on_slow``).

Three kinds of time, and what they cost:

- *handling* of the verbs in ``SAMPLED_VERBS``, which do so little that a reading of the clock would be felt: one slice of
  messages (``stream``: up to 16 that came together) in ``SAMPLED`` is timed, its time spread evenly over its messages;
- *handling* of all others: each is timed, so a slow one is found with its key;
- *waiting* of replies that need the coordinator or another node: from the request to its reply.

Handling is time of the event loop, in which nothing else is served; waiting for a turn of the loop is not in it (``loop_lag``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from kvcache.events import journal, shown_key
from kvcache.histogram import SERVICE_SECONDS, Histogram
from kvcache.service.service import Handler, Reply, Service
from kvcache_client.protocol.verbs import VERBS, Message, Role, Verb

__all__ = ["SAMPLED", "SAMPLED_VERBS", "RequestWatch", "tell_slow"]

SAMPLED: Final = 61
"""One slice in so many is timed: whenever the number of requests so far divides by it, which costs no counter of its own. A
prime above the size of a slice: whatever pattern clients repeat, they are met at every place of it."""

SAMPLED_VERBS: Final = frozenset({Verb.PING, Verb.GET, Verb.HEAD, Verb.PEEK, Verb.PUT})

OnSlow = Callable[[Message, float], None]


def tell_slow(message: Message, seconds: float) -> None:
    """Say in the log which request was slow: of its keys the first, escaped and cut, and how many there are."""
    spec = VERBS[Verb(message[1])]
    keys = [field for field in message[2:] if isinstance(field, bytes)] if "key" in " ".join(spec.fields) else []
    if "record" in " ".join(spec.fields):
        keys = keys[::2]
    first = shown_key(keys[0]) if keys else ""
    verb = spec.verb.name
    what = f"{verb} of {len(keys)} keys, the first {first}," if len(keys) > 1 else f"{verb} {first}".strip()
    journal.say("slow_request", what=what, verb=verb, keys=len(keys), key=first, ms=round(seconds * 1000, 1))


def _say_nothing(message: Message, seconds: float) -> None:
    return None


class RequestWatch:
    """Shared by all stream connections of a node. ``on_slow`` is called with what took over ``slow_seconds``; 0 is never."""

    __slots__ = ("_handled", "_waited", "clock", "on_slow", "slow_count", "slow_seconds")

    def __init__(
        self,
        slow_seconds: float = 0.0,
        on_slow: OnSlow = _say_nothing,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.clock = clock
        self.slow_seconds = slow_seconds or float("inf")
        self.slow_count = 0
        self.on_slow = on_slow
        self._handled = {int(verb): Histogram(SERVICE_SECONDS) for verb in Verb}
        self._waited = {int(verb): Histogram(SERVICE_SECONDS) for verb in Verb}

    def follow(self, service: Service) -> None:
        """Time each request of the verbs that are not sampled. The service must have all its verbs by now."""
        for role in Role:
            table = service.handlers_of(role)
            table.update({verb: self._timed(verb, handler) for verb, handler in table.items()})

    def _timed(self, verb: int, handler: Handler) -> Handler:
        if verb in SAMPLED_VERBS:
            return handler
        histogram = self._handled[verb]
        clock = self.clock

        def handle(message: Message) -> Reply:
            started = clock()
            try:
                return handler(message)
            finally:
                seconds = clock() - started
                histogram.add(seconds)
                if seconds > self.slow_seconds:
                    self._slow(message, seconds)

        return handle

    def sampled(self, messages: Sequence[Message], seconds: float) -> None:
        """Count a slice whose turn it was."""
        if not all(message[1] in SAMPLED_VERBS for message in messages):
            return  # the others were timed one by one, and would blur the rest
        each = seconds / len(messages)
        for message in messages:
            self._handled[message[1]].add(each)
        if each > self.slow_seconds:
            self._slow(messages[0], each)

    def _slow(self, message: Message, seconds: float) -> None:
        self.slow_count += 1
        self.on_slow(message, seconds)

    def replied(self, verb: int, seconds: float) -> None:
        """Count a reply that had to be waited for."""
        self._waited[verb].add(seconds)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data, by the names of the verbs."""
        return {
            "slow": self.slow_count,
            "handling_seconds": _by_name(self._handled),
            "waiting_seconds": _by_name(self._waited),
        }

    def __repr__(self) -> str:
        counted = sum(histogram.count for histogram in self._handled.values())
        return f"<RequestWatch slow={self.slow_count} counted={counted}>"


def _by_name(histograms: Mapping[int, Histogram]) -> dict[str, Any]:
    return {Verb(verb).name: histogram.as_dict() for verb, histogram in histograms.items() if histogram.count}
