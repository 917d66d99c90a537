"""A race over blocking sockets: requests that are slow and others beside them; the side that has answered first wins.

Here lives waiting for either side. Never here: which nodes are asked (``core.hedging``), or pooling.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TypeAlias

from kvcache_client.bodies.blocking_channel import Channel, Slot
from kvcache_client.core.effects import Outcome, Slow
from kvcache_client.core.hedging import is_over
from kvcache_client.protocol.errors import NoAnswer

__all__ = ["Held", "run_race"]

Waiter: TypeAlias = Slow | Slot

Held: TypeAlias = tuple[Channel, Sequence[Waiter]]
"""A channel, and who waits for its answers."""


def run_race(
    slow: Sequence[Waiter], others: Sequence[Waiter], held: Sequence[Held], seconds: float
) -> list[Outcome | None]:
    """Read until one side has all its answers, all have an outcome, or ``seconds`` are over; returns their outcomes, slow first.

    Who has none when the other side won is None, and its answer is dropped when it comes; when nobody won in time, all that have
    none get ``NoAnswer``.
    """
    deadline = time.monotonic() + seconds
    while not (over := is_over(_outcomes(slow), _outcomes(others))):
        waiting = [channel for channel, waiters in held if None in _outcomes(waiters)]
        readable, _, _ = select.select(waiting, [], [], max(deadline - time.monotonic(), 0.0))
        for channel in readable:
            channel.take_in()
        if not readable:
            break
    for channel, waiters in held:
        for waiter in waiters:
            if waiter.outcome is None:
                channel.link.forget(waiter)
                if not over:
                    waiter.set_result(NoAnswer(f"no answer within {seconds:.3g} s", node=channel.node or None))
    return _outcomes([*slow, *others])


def _outcomes(waiters: Sequence[Waiter]) -> list[Outcome | None]:
    return [waiter.outcome for waiter in waiters]
