"""Faults on virtual time: a few seeds each time, very many with ``make chaos``. What a seed has found it finds again."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from memory_network.living import LivingNetwork

from chaos.checkers import CHECKERS, Violation, check, counted
from chaos.history import Verb
from chaos.simulated import LastingLoad, final_state
from kvcache.cluster.changes import registered
from kvcache.cluster.loader import Loader
from kvcache.events import journal
from kvcache_client.placement.topology import Member

SEEDS = range(3)
MANY_SEEDS = range(100, 200)

Scenario = Callable[[LivingNetwork, LastingLoad, random.Random], None]

# A flush sets counters back to nothing, which their judge could not tell from a loss.
JUDGED = tuple(name for name in CHECKERS if name != "counter_bounds")

NOTHING_OLD = ("stale", "resurrected", "phantom")
"""Where one is dead and others are stopped, more is lost than what is promised; what is told must be true all the same."""


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes that come and go have much to say, which nobody reads."""
    monkeypatch.setattr(journal, "say", lambda *args, **fields: None)


@contextmanager
def living(seed: int, dice: random.Random) -> Iterator[LivingNetwork]:
    network = LivingNetwork(dice.choice([3, 4]), 2, seed=seed)
    network.told = dice.random() < 0.5
    try:
        yield network
    finally:
        network.close()


def judge(scenario: Scenario, seed: int, *judged: str, workers: int = 1) -> list[Violation]:
    dice = random.Random(seed)
    with living(seed, dice) as network:
        load = LastingLoad(network, seed, clients=2, keys=400 // workers, workers=workers)
        network.run(seconds=0.3)
        scenario(network, load, dice)
        history = load.stop()
        network.run(seconds=3.0)
        return check(history, final_state(network, load.keys), *(judged or JUDGED))


def erase(network: LivingNetwork, load: LastingLoad, prefix: str) -> None:
    ended = load.note(Verb.FLUSH, prefix)
    task = network.loop.create_task(network.purge(prefix))
    task.add_done_callback(lambda _: ended())
    network.run(until=task.done)
    assert task.exception() is None


def flush_while_away(network: LivingNetwork, load: LastingLoad, dice: random.Random, prefix: str = "") -> None:
    """Flush while one node is stopped and others hold hints for it, a few writes under way."""
    network.down_after = dice.choice([1.5, 5.0])
    victim = dice.choice(list(network.nodes.values()))
    victim.pause()
    network.run(seconds=dice.uniform(1.1, 2.0))
    erase(network, load, prefix)
    network.run(seconds=dice.choice([0.0, 0.01, 0.3]))
    victim.resume()
    network.run(seconds=1.5)


def purge_while_away(network: LivingNetwork, load: LastingLoad, dice: random.Random) -> None:
    """The same with a prefix, under which a tenth of the keys lie."""
    flush_while_away(network, load, dice, "key-1")


def flush_twice(network: LivingNetwork, load: LastingLoad, dice: random.Random) -> None:
    """Flush all and then a part, one soon after the other, under load."""
    erase(network, load, "")
    network.run(seconds=dice.uniform(0.0, 0.3))
    erase(network, load, "key-1")
    network.run(seconds=0.5)


def stopped_in_a_move(network: LivingNetwork, load: LastingLoad, dice: random.Random) -> None:
    """One node dies, another joins, and all that live are stopped for 1.3 s, twice, each a little after the other."""
    dice.choice(list(network.nodes.values())).kill()
    network.run(seconds=dice.uniform(0.2, 1.0))
    newcomer = network.nodes["n9"] = network.make_node("n9")
    network.commit(lambda known: registered(known, Member("n9", "10.0.0.9:7700", incarnation=newcomer.incarnation)))
    newcomer.live()
    network.run(seconds=dice.uniform(0.0, 0.6))
    for _ in range(2):
        for node in [node for node in network.nodes.values() if node.reachable]:
            begins = dice.uniform(0, 0.05)
            network.after(begins, node.pause)
            network.after(begins + 1.3 + dice.uniform(0, 0.02), node.resume)
        network.run(seconds=1.4 + dice.uniform(0.1, 1.0))
    network.run(seconds=3.0)


SCENARIOS = [flush_while_away, purge_while_away, flush_twice]


@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_flush_is_for_good(scenario: Scenario, seed: int) -> None:
    found = judge(scenario, seed)
    assert not found, "\n".join(map(str, found[:5]))


def test_nodes_that_are_stopped_in_a_move_while_one_is_dead_tell_nothing_old() -> None:
    found = judge(stopped_in_a_move, 1, *NOTHING_OLD, workers=5)
    assert not found, "\n".join(map(str, found[:5]))


def test_a_node_that_goes_on_as_if_it_had_not_been_away_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def believe(loader: Loader) -> None:
        loader._service.uninformed = False

    monkeypatch.setattr(Loader, "_catch_up", believe)
    assert any(counted(judge(flush_while_away, seed))["resurrected"] for seed in range(8))


@pytest.mark.chaos
@pytest.mark.parametrize("scenario", [*SCENARIOS, stopped_in_a_move])
def test_very_many_seeds(scenario: Scenario) -> None:
    hard = scenario is stopped_in_a_move
    judged, workers = (NOTHING_OLD, 5) if hard else (JUDGED, 1)
    seeds = MANY_SEEDS[:20] if hard else MANY_SEEDS
    guilty = {seed: str(found[0]) for seed in seeds if (found := judge(scenario, seed, *judged, workers=workers))}
    assert not guilty, guilty
