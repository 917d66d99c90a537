"""Figures of made-up runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chaos.figures import RunIsVoid, figures, percentile, seconds_to_recover
from chaos.history import History, Operation, Outcome, Verb

FAULT, HEALED, ENDED = 1.0, 2.0, 3.0


def run_of(latency: Callable[[float], float], rate: int = 2000) -> list[Operation]:
    """Reads at a fixed rate from 0 to 3 s; ``latency`` of the moment at which each is due."""
    moments = [number / rate for number in range(int(ENDED * rate))]
    return [
        Operation(number, "c", Verb.GET, "k", None, due, due, due + latency(due), Outcome.HIT)
        for number, due in enumerate(moments)
    ]


def test_a_percentile_is_a_value_that_was_there() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([5.0], 0.99) == 5.0
    assert percentile([], 0.99) == 0.0


def test_a_fault_that_nobody_feels_is_over_at_once() -> None:
    operations = run_of(lambda due: 0.002)
    assert seconds_to_recover(operations, FAULT, 0.002) == 0.0
    cost = figures(History(operations), begun=0.0, fault=FAULT, healed=HEALED, ended=ENDED)
    assert cost.rate_before == pytest.approx(2000, rel=0.01)
    for p99 in (cost.p99_before, cost.p99_during, cost.p99_after):
        assert p99 == pytest.approx(0.002)


def test_the_time_to_recover_ends_where_latency_is_back_for_good() -> None:
    def bumpy(due: float) -> float:
        return 0.1 if FAULT <= due < 1.25 or 1.4 <= due < 1.65 else 0.002  # between the bumps one good window only

    assert seconds_to_recover(run_of(bumpy), FAULT, 0.002) == pytest.approx(0.7)


def test_latency_that_stays_up_is_never_back() -> None:
    assert seconds_to_recover(run_of(lambda due: 0.1 if due >= FAULT else 0.002), FAULT, 0.002) is None
    assert seconds_to_recover([], FAULT, 0.002) is None


def test_a_silent_cluster_has_not_recovered() -> None:
    assert seconds_to_recover([it for it in run_of(lambda due: 0.002) if it.due < 1.15], FAULT, 0.002) is None


def test_a_run_with_too_little_load_is_void() -> None:
    with pytest.raises(RunIsVoid, match="900 operations/s"):
        figures(History(run_of(lambda due: 0.0001, 900)), begun=0.0, fault=FAULT, healed=HEALED, ended=ENDED)


def test_outcomes_are_counted_by_what_failed() -> None:
    operations = run_of(lambda due: 0.002)
    extra = [(Verb.GET, Outcome.FAILED), (Verb.SET, Outcome.FAILED), (Verb.INCR, Outcome.IN_DOUBT)]
    extra += [(Verb.GET, Outcome.MISS), (Verb.DELETE, Outcome.IN_DOUBT), (Verb.SET, Outcome.OK)]
    for number, (verb, outcome) in enumerate(extra, start=1 << 20):
        operations.append(Operation(number, "c", verb, "k", None, 1.5, 1.5, 1.9, outcome))
    cost = figures(History(operations), begun=0.0, fault=FAULT, healed=HEALED, ended=ENDED)
    assert (cost.failed_reads, cost.failed_writes, cost.in_doubt, cost.misses) == (1, 1, 2, 1)
    assert cost.slowest == pytest.approx(0.4)
    assert "failed reads 1, writes 1, in doubt 2" in str(cost)
