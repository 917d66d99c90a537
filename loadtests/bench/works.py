"""The works: everything that is measured, as one table.

Here lives which contestants meet in which work, and running one. Never here: a measured loop or a goal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from loadtests import CannotRun
from loadtests.bench.arena import CLUSTER, Arena
from loadtests.bench.calls import async_contestant, blocking_contestant
from loadtests.bench.capacity import DIALECTS, capacity_contestant
from loadtests.bench.goals import OURS
from loadtests.bench.memory import memory_budget_contestant, memory_record_contestant
from loadtests.bench.turns import Contestant, Outcome, take_turns
from loadtests.peers import ASYNC_CLIENTS, BLOCKING_CLIENTS

__all__ = ["SECTIONS", "WORKS", "Section", "Work", "choose", "measure"]

Opener = Callable[[Arena, contextlib.ExitStack, str], Contestant]
"""Opens one contestant by name; the stack closes it after the work."""


@dataclass(frozen=True, slots=True)
class Section:
    """Works that share a table: their unit, and the contestant that all are compared with."""

    name: str
    title: str
    unit: str
    reference: str
    lower_is_better: bool = False


@dataclass(frozen=True, slots=True)
class Work:
    """One row: who takes part and how each is opened.

    ``once``: measured in one turn, without warm-up.
    """

    name: str
    title: str
    section: str
    contestants: tuple[str, ...]
    open: Opener
    once: bool = False


SECTIONS: Final[Mapping[str, Section]] = {
    section.name: section
    for section in (
        Section("async", "asyncio clients, 100 B values", "calls/s", "redis-py"),
        Section("blocking", "blocking clients, 100 B values", "keys/s", "redis-py"),
        Section("capacity", "servers alone, 50 connections, prebuilt bytes", "gets/s of its core", "redis-server"),
        Section("memory", "memory of a server", "", "redis-server", lower_is_better=True),
    )
}

_GET: Final = tuple(ASYNC_CLIENTS)
_SET: Final = tuple(name for name in ASYNC_CLIENTS if name != "emcache batching")  # it batches gets only
_SERVERS: Final = tuple(DIALECTS)


def _async(verb: str, tasks: int, ours: str = OURS) -> Opener:
    return lambda arena, stack, name: async_contestant(arena, stack, name, verb, tasks, ours)


def _async_work(verb: str, tasks: int) -> Work:
    title = f"{verb}, {tasks} task{'s' if tasks > 1 else ''}, one node"
    names = _GET if verb == "get" else _SET
    return Work(f"async-{verb}-{tasks}", title, "async", names, _async(verb, tasks))


def _cluster_work(verb: str) -> Work:
    title = f"{verb}, 50 tasks, three nodes, two copies"
    names = _GET if verb == "get" else _SET
    return Work(f"cluster-{verb}-50", title, "async", names, _async(verb, 50, CLUSTER))


def _blocking_work(verb: str, title: str) -> Work:
    def opener(arena: Arena, stack: contextlib.ExitStack, name: str) -> Contestant:
        return blocking_contestant(arena, stack, name, verb)

    name = f"blocking-{verb.replace('_', '-')}"
    return Work(name, title, "blocking", tuple(BLOCKING_CLIENTS), opener)


def _capacity(pipeline: int) -> Opener:
    return lambda arena, stack, name: capacity_contestant(arena, stack, name, pipeline)


def _record(arena: Arena, stack: contextlib.ExitStack, name: str) -> Contestant:
    return memory_record_contestant(arena, name)


def _budget(arena: Arena, stack: contextlib.ExitStack, name: str) -> Contestant:
    return memory_budget_contestant(arena, name)


WORKS: Final[tuple[Work, ...]] = (
    *(_async_work(verb, tasks) for tasks in (1, 50, 500) for verb in ("get", "set")),
    *(_cluster_work(verb) for verb in ("get", "set")),
    _blocking_work("get", "get"),
    _blocking_work("get_many", "get_many of 100"),
    _blocking_work("set_many", "set_many of 100"),
    Work("capacity-get-16", "get, pipelines of 16", "capacity", _SERVERS, _capacity(16)),
    Work("capacity-get-1", "get, no pipeline", "capacity", _SERVERS, _capacity(1)),
    Work("memory-record", "B per record over 116, 1 M records", "memory", _SERVERS, _record, once=True),
    Work("memory-budget", "growth / 256 MiB budget, 1 GiB written", "memory", (OURS,), _budget, once=True),
)
"""Everything that is measured, in the order in which it is."""


def choose(only: Iterable[str]) -> tuple[Work, ...]:
    """Return the works whose name is, or begins with, one of ``only``; all of them when it is empty."""
    prefixes = list(only)
    for prefix in prefixes:
        if not any(work.name.startswith(prefix) for work in WORKS):
            raise CannotRun(f"no work is called {prefix!r}; there is: {', '.join(work.name for work in WORKS)}")
    exact = {work.name for work in WORKS} & set(prefixes)
    beginnings = tuple(prefix for prefix in prefixes if prefix not in exact)
    return tuple(work for work in WORKS if not prefixes or work.name in exact or work.name.startswith(beginnings))


def turns_of(work: Work, rounds: int) -> int:
    """Return how many turns the work takes if every contestant can take part."""
    return len(work.contestants) * (1 if work.once else rounds)


def measure(
    work: Work,
    arena: Arena,
    rounds: int,
    seconds: float,
    *,
    finished: Callable[[str], None],
    skipped: Callable[[str, CannotRun], None],
) -> Outcome:
    """Run one work; a contestant that cannot take part or breaks is reported to ``skipped`` and left out."""
    with contextlib.ExitStack() as stack:
        contestants = list(_opened(work, arena, stack, skipped))
        if not contestants:
            return Outcome(work.name, {})
        if work.once:
            rounds = 1
        samples = take_turns(
            contestants,
            rounds,
            seconds,
            finished,
            warm_up=not work.once,
            broke=lambda name, error: skipped(name, CannotRun(f"{work.name} broke it: {error!r}")),
        )
        return Outcome(work.name, samples)


def _opened(
    work: Work, arena: Arena, stack: contextlib.ExitStack, skipped: Callable[[str, CannotRun], None]
) -> Iterable[Contestant]:
    for name in work.contestants:
        try:
            yield work.open(arena, stack, name)
        except CannotRun as reason:
            skipped(name, reason)
