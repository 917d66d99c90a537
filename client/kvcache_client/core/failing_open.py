"""Failing open: a cache that must never break its application.

Here lives what a call comes to when ``fail_open`` is set and no node can answer: a read is a miss, a write has no effect; both
are counted. Never here: trying (the plans).

The caller's own mistakes are raised all the same, and so is ``StaleFence``: who has lost a lock must hear of it. Locks do not
fail open.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, TypeVar, cast

from kvcache_client.core.brain import Brain
from kvcache_client.core.effects import Plan
from kvcache_client.core.lookups import why_failed
from kvcache_client.core.results import BatchResult
from kvcache_client.core.space import Space
from kvcache_client.protocol.errors import KvCacheError, StaleFence, UsageError

__all__ = ["OPEN_AGAIN_SECONDS", "batch_fails_open", "forgiving_write", "is_forgiven", "write_fails_open"]

T = TypeVar("T")
Verb = TypeVar("Verb", bound=Callable[..., Plan[Any]])
Forgiving = Callable[[Brain, Space, Plan[Any]], Plan[Any]]

OPEN_AGAIN_SECONDS: Final = 1.0
"""How long a client that fails open and has found no cluster answers at once, before it looks again."""


def is_forgiven(brain: Brain, error: KvCacheError) -> bool:
    """Say whether a call goes on as if nothing had been there."""
    return brain.config.fail_open and not isinstance(error, UsageError | StaleFence)


def write_fails_open(instead: object) -> Callable[[Verb], Verb]:
    """Make a verb's plan come to ``instead`` where no node can carry it out, if the client fails open."""

    return _decorated(lambda brain, _, plan: forgiving_write(brain, plan, instead))


def forgiving_write(brain: Brain, plan: Plan[T], instead: T) -> Plan[T]:
    """Drive ``plan``; where no node can carry it out, count that and come to ``instead``."""
    try:
        return (yield from plan)
    except KvCacheError as error:
        if not is_forgiven(brain, error):
            raise
        brain.counters.failed_open_writes += 1
        return instead


def batch_fails_open(counter: str) -> Callable[[Verb], Verb]:
    """Make keys of a batch that failed be missing, if the client fails open; they are counted by that counter."""

    def forgiving(brain: Brain, space: Space, plan: Plan[BatchResult[Any]]) -> Plan[BatchResult[Any]]:
        try:
            batch = yield from plan
        except KvCacheError as error:
            if not is_forgiven(brain, error):
                raise
            setattr(brain.counters, counter, getattr(brain.counters, counter) + 1)
            return BatchResult({}, frozenset(), {})
        forgiven = {key for key, error in batch.failed.items() if is_forgiven(brain, error)}
        setattr(brain.counters, counter, getattr(brain.counters, counter) + len(forgiven))
        if counter == "failed_open_reads":
            for key in forgiven:
                space.lookups.missed(why_failed(batch.failed[key]))
        left = {key: error for key, error in batch.failed.items() if key not in forgiven}
        return BatchResult(dict(batch), batch.missing | forgiven, left)

    return _decorated(forgiving)


def _decorated(forgiving: Forgiving) -> Callable[[Verb], Verb]:
    def decorate(verb: Verb) -> Verb:
        @wraps(verb)
        def made(brain: Brain, space: Space, *arguments: Any, **options: Any) -> Plan[Any]:
            plan = verb(brain, space, *arguments, **options)
            return forgiving(brain, space, plan) if brain.config.fail_open else plan

        return cast(Verb, made)

    return decorate
