"""The conclusion: when the load has ended, every acknowledged write is looked for.

Here lives that last reading. Never here: what a user reads meanwhile, which is judged by the same rules.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from loadtests.run.overdue import note_overdue
from loadtests.users.ledger import Known, Verdict
from loadtests.users.workload import Workload

__all__ = ["conclude"]

_BATCH = 200
_QUIET_SECONDS = 5.0
_SECONDS = 8.0
_TRIES = 5


def conclude(workload: Workload) -> None:
    """Hold the users, wait until nothing is under way, and read back what was acknowledged, as far as time allows.

    Facts that it leaves: ``checked``, and ``lost``, ``old``, ``wrong``, ``unreadable`` of what was not as it must be.
    """
    workload.stopping = True
    stopped = time.perf_counter()
    end = time.perf_counter() + _QUIET_SECONDS
    while workload.running and time.perf_counter() < end:
        time.sleep(0.01)
    note_overdue(workload, stopped)
    workload.look_at_nodes()
    end = time.perf_counter() + _SECONDS
    written = list(workload.ledger.written())
    looked = 0
    try:
        while looked < len(written) and time.perf_counter() < end:
            _check(workload, written[looked : looked + _BATCH])
            looked += _BATCH
    finally:  # also when whoever waits for this has no more patience
        workload.recording.facts["unchecked"] += max(len(written) - looked, 0)
    _check_counters(workload)
    workload.look_at_nodes()


def _check(workload: Workload, batch: Sequence[tuple[str, Known]]) -> None:
    wanted = dict(batch)
    for _ in range(_TRIES):
        asked = time.perf_counter()
        try:
            answer = workload.cache.get_many(list(wanted))
        except workload.cache.errors:
            time.sleep(0.2)
            continue
        for key, known in list(wanted.items()):
            if key not in answer.failed:
                del wanted[key]
                _judge(workload, key, known, answer.found.get(key), asked)
        if not wanted:
            break
        time.sleep(0.2)
    workload.recording.facts["unreadable"] += len(wanted)


def _judge(workload: Workload, key: str, known: Known, value: object, asked: float) -> None:
    facts = workload.recording.facts
    facts["checked"] += 1
    verdict = workload.ledger.judge(key, known, known.state, value, asked)
    if verdict is Verdict.MISS:
        workload.missed(key, known, known.state)
    elif verdict is not Verdict.HIT:
        facts[str(verdict)] += 1


def _check_counters(workload: Workload) -> None:
    facts = workload.recording.facts
    for key, tally in workload.counters.all():
        if not tally.sent:
            continue
        try:
            value = int(workload.cache.get(key) or 0)
        except workload.cache.errors:
            facts["unreadable"] += 1
            continue
        facts["checked"] += 1
        verdict = tally.judge_final(value)
        if verdict is Verdict.OLD:
            facts["lost"] += tally.acknowledged - value
        elif verdict is not Verdict.HIT:
            facts[str(verdict)] += 1
