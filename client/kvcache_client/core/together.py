"""Running many plans as one.

Here lives the combinator for batches: it steps several plans in lockstep and joins what they ask for into one round, so a
thousand careful reads cost as many round trips as one. Never here: what those plans do.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from kvcache_client.core.effects import (
    REFRESH,
    Ask,
    Effect,
    Load,
    Outcome,
    Pause,
    Plan,
    Race,
    Refresh,
    Round,
    Share,
    Watched,
    Within,
)
from kvcache_client.protocol.errors import KvCacheError

__all__ = ["together"]

T = TypeVar("T")


def together(plans: Iterable[Plan[T]]) -> Plan[list[T | KvCacheError]]:
    """Drive ``plans`` side by side; returns each one's result, or the error that it raised, in order."""
    running = list(plans)
    results: list[Any] = [None] * len(running)
    wanted: dict[int, Effect] = {}
    for index, plan in enumerate(running):
        _step(index, plan, None, wanted, results)
    while wanted:
        effects, wanted = wanted, {}
        outcomes = iter((yield from _perform(list(effects.values()))))
        for index, effect in effects.items():
            _step(index, running[index], _share(effect, outcomes), wanted, results)
    return results


def _step(index: int, plan: Plan[Any], outcome: Any, wanted: dict[int, Effect], results: list[Any]) -> None:
    try:
        wanted[index] = plan.send(outcome)
    except StopIteration as done:
        results[index] = done.value
    except KvCacheError as error:
        results[index] = error


def _asks(effect: Effect) -> Round:
    if isinstance(effect, Within | Watched):
        return effect.round
    if isinstance(effect, list):
        return effect
    if isinstance(effect, Pause | Refresh | Load | Share):
        return []
    if isinstance(effect, Race):
        raise TypeError("requests of a round are never slow, so there is nothing to race")
    return [effect]


def _perform(effects: list[Effect]) -> Plan[list[Outcome]]:
    """Do all that the effects ask for at once; returns the outcomes of all their requests in order.

    Nobody looks at the topology while others ask: that can take as long as an answer, and those who ask have reckoned with one
    of the two. Who wanted to look goes on by what is known, and wants it again if that was wrong.
    """
    asks: list[Ask] = [ask for effect in effects for ask in _asks(effect)]
    if not asks and any(isinstance(effect, Refresh) for effect in effects):
        yield REFRESH
    pauses = [effect.seconds for effect in effects if isinstance(effect, Pause)]
    if pauses:
        yield Pause(max(pauses))
    if not asks:
        return []
    limits = [effect.seconds for effect in effects if isinstance(effect, Within)]
    outcomes: list[Outcome] = yield (Within(asks, min(limits)) if limits else asks)
    return outcomes


def _share(effect: Effect, outcomes: Any) -> Any:
    """Return what the plan that yielded ``effect`` is owed of the joint outcomes."""
    if isinstance(effect, Pause | Refresh | Load | Share):
        return None
    shares = [next(outcomes) for _ in _asks(effect)]
    return shares if isinstance(effect, list | Within | Watched) else shares[0]
