"""A race over blocking sockets: two requests under way, the first answer wins.

Here lives waiting for either of two channels. Never here: which nodes are asked (``core.hedging``), or pooling.
"""

from __future__ import annotations

import select
import time
from collections.abc import Sequence
from typing import TypeAlias

from kvcache_client.bodies.blocking_channel import Channel, Slot
from kvcache_client.core.effects import Outcome, Slow
from kvcache_client.core.hedging import is_answer
from kvcache_client.protocol.errors import NoAnswer

__all__ = ["Runner", "is_over", "run_race"]

Runner: TypeAlias = tuple[Channel, Slow | Slot]
"""A channel, and who waits for its answer."""


def run_race(runners: Sequence[Runner], seconds: float) -> list[Outcome | None]:
    """Read until one of ``runners`` has an answer, all have an outcome, or ``seconds`` are over; returns their outcomes.

    Who has none when somebody else won is None, and its answer is dropped when it comes; when nobody won in time, all that have
    none get ``NoAnswer``.
    """
    deadline = time.monotonic() + seconds
    while not is_over(runners):
        waiting = [channel for channel, waiter in runners if waiter.outcome is None]
        readable, _, _ = select.select(waiting, [], [], max(deadline - time.monotonic(), 0.0))
        for channel in readable:
            channel.take_in()
        if not readable:
            break
    won = any(is_answer(waiter.outcome) for _, waiter in runners)
    outcomes: list[Outcome | None] = []
    for channel, waiter in runners:
        outcome = waiter.outcome
        if outcome is None:
            silence = NoAnswer(f"no answer within {seconds:.3g} s", node=channel.node or None)
            channel.link.forget(waiter)
            outcome = None if won else silence
        outcomes.append(outcome)
    return outcomes


def is_over(runners: Sequence[Runner]) -> bool:
    """Say whether there is nothing to wait for."""
    outcomes = [waiter.outcome for _, waiter in runners]
    return any(map(is_answer, outcomes)) or None not in outcomes
