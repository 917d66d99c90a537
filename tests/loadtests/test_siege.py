"""The siege: each attack does what it says to a real node, and the findings are judged by their goals."""

from __future__ import annotations

import asyncio

import pytest

from loadtests.siege import sieges
from loadtests.siege.__main__ import main, parser
from loadtests.siege.attacks import ATTACKS
from loadtests.siege.sieges import GOALS, Finding


@pytest.mark.parametrize(
    ("finding", "reached"),
    [
        (Finding("connects", 1.9, 2.0), True),
        (Finding("connects", 2.1, 2.0), False),
        (Finding("price of tls", 0.7, 0.6, at_least=True), True),
        (Finding("price of tls", 0.5, 0.6, at_least=True), False),
        (Finding("guesses", 1.0, 2.0, details={"accepted": 1}), False),
        (Finding("idle", 1.0, 1.2, details={"bytes_per_connection": 30_000}), False),
    ],
)
def test_a_finding_is_judged_by_all_that_is_asked_for(finding: Finding, reached: bool) -> None:
    assert finding.reached is reached


def test_every_attack_has_a_goal() -> None:
    assert set(GOALS) == set(ATTACKS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["slow-loris", "never-reading", "connects", "guesses"])
def test_an_attack_is_made_and_the_bystander_is_served(name: str) -> None:
    finding = asyncio.run(sieges.besiege(name, 1, 0.2, None))
    did = {"slow-loris": "connections", "never-reading": "requests", "connects": "connects", "guesses": "guesses"}
    assert finding.details[did[name]] > 0
    assert finding.details.get("accepted", 0) == 0
    assert finding.details["failed_calls"] == 0
    assert len(finding.details["p99_ms_attacked"]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("wall", ["secret", "tls"])
def test_a_wall_is_priced(wall: str) -> None:
    finding = asyncio.run(sieges.price_of(wall, 1, 0.1, None))
    assert finding.figure > 0
    assert finding.details[f"cpu_us_per_get_with_{wall}"] > 0


def test_an_unknown_siege_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--only", "flood"])
    assert "there is no siege 'flood'; there are idle" in capsys.readouterr().err
    assert parser().parse_args([]).rounds == 3
