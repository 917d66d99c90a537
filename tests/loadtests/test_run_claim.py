"""The claim: two runs at once would judge each other's values, so the second does not begin."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from polling import wait_until

from loadtests import CannotRun
from loadtests.run.claim import Claim

SECONDS = 0.02


class _Cache:
    """A dict, or a cache that fails."""

    errors = (ConnectionError,)

    def __init__(self) -> None:
        self.held: dict[str, Any] = {}
        self.failing = False
        self.delete = lambda key: self.held.pop(key, None)

    def get(self, key: str) -> Any:
        if self.failing:
            raise ConnectionError
        return self.held.get(key)

    def set(self, key: str, value: bytes, ttl: float | None) -> None:
        if self.failing:
            raise ConnectionError
        self.held[key] = value


class _Runs:
    """Runs on one cache, and which of them have seen another."""

    def __init__(self) -> None:
        self.cache = _Cache()
        self.saw: list[str] = []
        self.claims: list[Claim] = []

    def claim(self, run: str, worker: int = 0) -> Claim:
        claim = Claim(self.cache, worker, run, lambda: self.saw.append(run), seconds=SECONDS)  # type: ignore[arg-type]  # all it asks for
        self.claims.append(claim)
        return claim


@pytest.fixture
def runs() -> Iterator[_Runs]:
    runs = _Runs()
    yield runs
    for claim in runs.claims:
        claim.give_back()


def test_a_second_run_does_not_begin_until_the_first_has_ended(runs: _Runs) -> None:
    first, second = runs.claim("a1"), runs.claim("a2")
    first.take()
    with pytest.raises(CannotRun, match="another run writes the same keys"):
        second.take()
    second.give_back()  # which it never had
    with pytest.raises(CannotRun):
        runs.claim("a3").take()
    first.give_back()
    assert not runs.cache.held
    second.take()
    assert not runs.saw


def test_workers_of_one_run_do_not_meet(runs: _Runs) -> None:
    runs.claim("a1", worker=0).take()
    runs.claim("b7", worker=1).take()
    assert len(runs.cache.held) == 2


def test_the_claim_of_a_run_that_was_killed_is_taken_over(runs: _Runs) -> None:
    runs.cache.held["load:claim:0"] = b"a1 17"
    runs.claim("a2").take()
    wait_until(lambda: runs.cache.held["load:claim:0"].startswith(b"a2 "))
    assert not runs.saw


def test_two_that_begin_in_the_same_moment_see_each_other(runs: _Runs) -> None:
    runs.claim("a1").take()
    claim, runs.cache.held = runs.cache.held, {}
    runs.claim("a2").take()
    runs.cache.held |= claim
    wait_until(lambda: set(runs.saw) == {"a1", "a2"})


def test_a_cache_that_fails_forbids_nothing(runs: _Runs) -> None:
    runs.cache.failing = True
    runs.claim("a1").take()
