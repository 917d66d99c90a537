"""get_or_compute on virtual time: one computation in the whole cluster, and nobody is left waiting."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from memory_network import MemoryNetwork, Taking

from kvcache_client.protocol.errors import InvalidOption, InvalidTtl, UnsupportedValue, ValueTooLarge
from kvcache_client.protocol.verbs import Verb


class Loader:
    """Counts its calls. Each takes the next of what it was given, the last one again and again."""

    def __init__(self, *results: Any) -> None:
        self.results = list(results)
        self.calls = 0

    def __call__(self) -> Any:
        self.calls += 1
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]


def settled(network: MemoryNetwork, calls: list[Any]) -> list[Any]:
    network.run(until=lambda: all(call.done for call in calls))
    return [call.error or call.result() for call in calls]


def test_a_missing_value_is_computed_once_and_kept_on_all_owners(network: MemoryNetwork) -> None:
    client, load = network.client(), Loader("value")
    assert client.get_or_compute("k", load, ttl=60) == "value"
    assert client.get_or_compute("k", load, ttl=60) == client.get("k") == "value"
    assert load.calls == 1
    copies = network.copies("k")
    assert set(copies) == {node.id for node in network.owners("k")}
    assert len(set(copies.values())) == 1


def test_many_callers_of_many_processes_make_one_computation(network: MemoryNetwork) -> None:
    load = Loader(Taking(0.2, "value"))
    clients = [network.client(lease=5.0) for _ in range(4)]
    calls = [client.later.get_or_compute("k", load, ttl=60) for client in clients for _ in range(50)]
    assert settled(network, calls) == ["value"] * 200
    assert load.calls == 1
    assert max(call.took for call in calls) < 0.22
    assert sum(client.brain.counters.computations for client in clients) == 1
    assert sum(node.asked[Verb.LEASE] for node in network.nodes.values()) == 4  # nobody asks twice


def test_what_waits_is_answered_when_the_holder_dies(network: MemoryNetwork) -> None:
    first, second = network.client(), network.client()
    hanging, load = Loader(Taking(1e6)), Loader("value")
    first.later.get_or_compute("k", hanging)
    network.run(seconds=0.01)
    call = second.later.get_or_compute("k", load)
    network.run(seconds=0.5)
    assert not call.done
    first.session.wires[network.owners("k")[0].id].end("its process died")
    assert settled(network, [call]) == ["value"]
    assert call.took < 0.52


def test_a_loader_that_hangs_keeps_others_for_one_lease_and_no_longer(network: MemoryNetwork) -> None:
    load = Loader(Taking(1e6), Taking(0.1, "value"))
    clients = [network.client(lease=2.0) for _ in range(3)]
    network.run(seconds=0.0)
    clients[0].later.get_or_compute("k", load)
    network.run(seconds=0.01)
    calls = [client.later.get_or_compute("k", load) for client in clients for _ in range(5)]
    assert settled(network, calls) == ["value"] * 15
    assert load.calls <= 3
    assert max(call.took for call in calls) < 2.0 + 0.1 + 0.3


def test_an_error_of_the_loader_goes_to_its_process_and_the_next_process_is_asked_at_once(
    network: MemoryNetwork,
) -> None:
    first, second = network.client(), network.client()
    wrong, right = Loader(Taking(0.1, ZeroDivisionError("no"))), Loader("value")
    failing = [first.later.get_or_compute("k", wrong) for _ in range(3)]
    network.run(seconds=0.05)
    call = second.later.get_or_compute("k", right)
    assert settled(network, [call]) == ["value"]
    assert call.took < 0.07
    assert [type(error) for error in settled(network, failing)] == [ZeroDivisionError] * 3
    assert (wrong.calls, right.calls) == (1, 1)
    assert first.brain.counters.failed_computations == 1


def test_an_error_of_the_loader_is_not_kept(network: MemoryNetwork) -> None:
    client, load = network.client(), Loader(ZeroDivisionError("no"), "value")
    with pytest.raises(ZeroDivisionError):
        client.get_or_compute("k", load)
    assert client.get_or_compute("k", load) == "value"


CHANGES: dict[str, Callable[[Any], Any]] = {
    "delete": lambda client: client.delete("k"),
    "set": lambda client: client.set("k", "newer"),
    "incr": lambda client: client.incr("k"),
    "add": lambda client: client.add("k", "newer"),
    "set_many": lambda client: client.set_many({"k": "newer"}),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("own", [True, False], ids=["own", "foreign"])
def test_a_change_during_the_computation_voids_it(network: MemoryNetwork, change: str, own: bool) -> None:
    client = network.client()
    load = Loader(Taking(0.2, "older"), "again")
    call = client.later.get_or_compute("k", load, ttl=60)
    network.run(seconds=0.05)
    CHANGES[change](client if own else network.client())
    expected = client.get("k")
    assert expected != "older"
    again = client.get_or_compute("k", load, ttl=60)  # does not get what was computed before the change
    assert again == ("again" if change == "delete" else expected)
    assert settled(network, [call]) == ["older"]  # its own caller gets what it computed
    assert client.get("k") == again
    assert client.brain.counters.void_fills == 1


@pytest.mark.parametrize("prefix", ["", "k"])
def test_a_flush_or_purge_during_the_computation_voids_it(network: MemoryNetwork, prefix: str) -> None:
    client = network.client()
    call = client.later.get_or_compute("k", Loader(Taking(0.2, "older")), ttl=60)
    network.run(seconds=0.05)
    waiting = network.client().later.get_or_compute("k", Loader("fresh"), ttl=60)
    network.run(seconds=0.01)
    hidden_to = network.owners("k")[0].service.clock.stamp()
    network.change(replace(network.topology, epoch=network.topology.epoch + 1, generations=((prefix, hidden_to),)))
    assert settled(network, [call, waiting]) == ["older", "fresh"]
    assert network.client().get("k") == "fresh"


def test_a_stale_value_is_served_while_one_caller_refreshes_it(network: MemoryNetwork) -> None:
    clients, load = [network.client() for _ in range(3)], Loader("old", Taking(0.2, "new"))
    assert clients[0].get_or_compute("k", load, ttl=1, stale=10) == "old"
    assert clients[1].get("k") == "old"
    network.run(seconds=2.0)
    assert clients[1].get("k") is None
    assert clients[1].get_entry("k") is None
    assert clients[1].exists("k") is False
    assert not clients[1].get_many(["k"])
    calls = [client.later.get_or_compute("k", load, ttl=1, stale=10) for client in clients for _ in range(5)]
    results = settled(network, calls)
    assert results.count("new") == 1
    assert results.count("old") == 14
    assert load.calls == 2
    assert network.client().get("k") == "new"
    assert sum(client.brain.counters.stale_served for client in clients) == 14


def test_a_stale_value_is_served_if_the_loader_raises_and_not_after_its_time(network: MemoryNetwork) -> None:
    client, load = network.client(), Loader("old", ZeroDivisionError("no"))
    client.get_or_compute("k", load, ttl=1, stale=5)
    network.run(seconds=2.0)
    assert client.get_or_compute("k", load, ttl=1, stale=5) == "old"
    network.run(seconds=5.0)
    with pytest.raises(ZeroDivisionError):
        client.get_or_compute("k", load, ttl=1, stale=5)


def test_an_entry_tells_the_time_to_its_soft_expiry(network: MemoryNetwork) -> None:
    client = network.client()
    client.get_or_compute("k", Loader(1), ttl=10, stale=100)
    entry = client.get_entry("k")
    assert entry is not None
    assert 9 < entry.ttl <= 10
    assert client.cas("k", 2, version=entry.version)


def test_what_is_past_its_soft_expiry_is_absent_for_who_decides(network: MemoryNetwork) -> None:
    client = network.client()
    for key in "abc":
        client.get_or_compute(key, Loader(41), ttl=1, stale=100)
    assert client.incr("a") == 42
    assert client.touch("b", 50) is True
    network.run(seconds=2.0)
    assert client.get("b") == 41
    assert client.replace("c", 1) is False
    assert client.add("c", 1) is True


def test_nothing_found_is_remembered(network: MemoryNetwork) -> None:
    client, load = network.client(), Loader(None)
    for _ in range(3):
        assert client.get_or_compute("k", load, ttl=60, negative_ttl=5) is None
    assert load.calls == 1
    network.run(seconds=6.0)
    assert client.get_or_compute("k", load, ttl=60, negative_ttl=5) is None
    assert load.calls == 2


def test_jitter_only_shortens_a_life(network: MemoryNetwork) -> None:
    client = network.client()
    for number in range(30):
        client.get_or_compute(f"k{number}", Loader(1), ttl=100, jitter=0.5)
    lives = [entry.ttl for entry in (client.get_entry(f"k{number}") for number in range(30)) if entry and entry.ttl]
    assert len(lives) == 30
    assert all(49 < life <= 100 for life in lives)
    assert max(lives) - min(lives) > 20


def test_without_any_node_the_value_is_computed_all_the_same(network: MemoryNetwork) -> None:
    client, load = network.client(), Loader("value")
    for node in network.nodes.values():
        node.cut()
    assert client.get_or_compute("k", load, ttl=60) == "value"
    assert client.get_or_compute("k", load, ttl=60) == "value"
    assert client.brain.counters.computed_alone == 2


@pytest.mark.parametrize("seed", range(6))
def test_the_node_that_has_the_lease_dies(make_network: Callable[..., MemoryNetwork], seed: int) -> None:
    network = make_network(4, 2, seed=seed)
    load = Loader(Taking(0.3, "value"))
    calls = [network.client(lease=2.0).later.get_or_compute("k", load, ttl=60) for _ in range(4)]
    network.run(seconds=0.05 * (seed + 1))
    network.owners("k")[0].kill()
    assert settled(network, calls) == ["value"] * 4
    assert load.calls <= 2 + (seed > 4)
    assert max(call.took for call in calls) < 1.5


def test_who_waits_at_a_node_that_ceases_to_own_asks_the_next(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    client, other = network.client(), network.client()
    client.later.get_or_compute("k", Loader(Taking(3.0, "first")), ttl=60)
    network.run(seconds=0.05)
    call = other.later.get_or_compute("k", Loader("second"), ttl=60)
    network.run(seconds=0.05)
    gone = network.owners("k")[0].id
    member = network.topology.member(gone)
    assert member is not None
    network.change(network.topology.with_member(replace(member, leaving=True)).settled())
    assert settled(network, [call]) == ["second"]
    assert call.took < 1.0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"ttl": None, "stale": 5}, "stale=5 contradicts ttl=None"),
        ({"ttl": None, "jitter": 0.1}, "jitter=0.1 contradicts ttl=None"),
        *(({"ttl": 5, "jitter": bad}, "jitter=") for bad in (-0.1, 1.1, math.nan, "0.1", True)),
        *(({"ttl": 5, "stale": bad}, "stale=") for bad in (-1, math.nan, math.inf, "5", "5 m", True, [5])),
        *(({"ttl": 5, "negative_ttl": bad}, "negative_ttl=") for bad in (-1, 0, math.nan, "", "1x")),
        *(({"ttl": 5, "lease": bad}, "lease=") for bad in (-1, 0, 0.001, 3601, math.nan)),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(
    network: MemoryNetwork, options: dict[str, Any], named: str
) -> None:
    load = Loader(1)
    with pytest.raises(InvalidOption, match=named):
        network.client().get_or_compute("k", load, **options)
    assert load.calls == 0


@pytest.mark.parametrize("ttl", [-1, 0, math.nan, math.inf, "60", "5m2h", "m", "-5m", "", b"5m"])
def test_a_time_to_live_that_makes_no_sense_is_refused(network: MemoryNetwork, ttl: Any) -> None:
    client = network.client()
    with pytest.raises(InvalidTtl, match="ttl="):
        client.get_or_compute("k", Loader(1), ttl)
    with pytest.raises(InvalidTtl, match="ttl="):
        client.set("k", 1, ttl)


@pytest.mark.parametrize(
    ("ttl", "seconds"),
    [("90s", 90), ("5m", 300), ("2h5m", 7500), ("1d", 86400), ("1w1ms", 604800.001), ("0.5s", 0.5), ("1h0m30s", 3630)],
)
def test_durations_may_be_text_everywhere(network: MemoryNetwork, ttl: str, seconds: float) -> None:
    client = network.client()
    client.set("k", 1, ttl)
    client.get_or_compute("m", Loader(1), ttl)
    client.incr("n", ttl=timedelta(seconds=seconds))
    for key in "kmn":
        entry = client.get_entry(key)
        assert entry is not None
        assert seconds - 0.1 < entry.ttl <= seconds + 0.002


def test_a_value_that_cannot_be_kept_is_refused_and_gives_the_lease_back(network: MemoryNetwork) -> None:
    client = network.client()
    with pytest.raises(UnsupportedValue):
        client.get_or_compute("k", Loader(object()))
    with pytest.raises(ValueTooLarge):
        client.get_or_compute("k", Loader(b"x" * (2 << 20)))
    call = network.client().later.get_or_compute("k", Loader("value"))
    assert settled(network, [call]) == ["value"]
    assert call.took < 0.02


@pytest.mark.parametrize("load", [None, "value", 5])
def test_a_loader_that_is_no_function_is_refused(network: MemoryNetwork, load: Any) -> None:
    with pytest.raises(InvalidOption, match="load="):
        network.client().get_or_compute("k", load)
