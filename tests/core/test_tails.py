"""What a slow node costs the slowest reads, in virtual time: goals that ``loadtests.tails`` measures with real processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from memory_network import Call, MemoryClient, MemoryNetwork, Weather

NEAR = Weather(one_way=(0.001, 0.002))
KEYS = [f"k{number}" for number in range(200)]


def percentile(
    network: MemoryNetwork, client: MemoryClient, share: float, reads: int = 6000, *, batch: int = 0, rate: float = 500
) -> float:
    """Return that percentile of the times that reads take which arrive at random; of ``batch`` keys each, if that is given."""
    took: list[float] = []

    def read() -> Call:
        later = client.later
        return later.get_many(network.random.sample(KEYS, batch)) if batch else later.get(network.random.choice(KEYS))

    def arrive(left: int) -> None:
        call = read()
        call.then = lambda call: note(call)
        if left:
            network.after(network.random.expovariate(rate), lambda: arrive(left - 1))

    def note(call: Call) -> None:
        assert set(call.result().values()) == {1} if batch else call.result() == 1
        took.append(call.took)

    arrive(reads)
    network.run()
    assert len(took) == reads + 1
    return sorted(took)[int(share * len(took))]


def filled(network: MemoryNetwork, **options: Any) -> MemoryClient:
    network.weather = NEAR
    client = network.client(timeout=1.0, **options)
    assert not client.set_many(dict.fromkeys(KEYS, 1)).failed
    return client


def test_one_of_three_nodes_that_answers_100_ms_later_is_hardly_noticed(
    make_network: Callable[..., MemoryNetwork],
) -> None:
    network = make_network(3, 2)
    client = filled(network)
    healthy = percentile(network, client, 0.99)
    counters = client.brain.counters
    extra = counters.hedged_reads + counters.retries
    network.local_weather[(client.session.name, "n1")] = Weather(one_way=(0.051, 0.052))
    assert percentile(network, client, 0.99) <= 2 * healthy
    assert counters.hedged_reads + counters.retries - extra <= 0.05 * 6000


def test_hedges_cut_the_tail_of_a_node_that_is_slow_now_and_then(make_network: Callable[..., MemoryNetwork]) -> None:
    tails = {}
    for hedging in (True, False):
        network = make_network(3, 2)
        client = filled(network, hedging=hedging)
        late = Weather(one_way=NEAR.one_way, stall=0.005, stall_seconds=0.06)
        network.local_weather[(client.session.name, "n1")] = late
        percentile(network, client, 0.5, 1000)  # until it knows what is usual
        tails[hedging] = percentile(network, client, 0.999)
    assert tails[True] <= 0.3 * tails[False]


@pytest.mark.parametrize("balancing", ["least_response_time", "primary"])
def test_hedges_cut_the_tail_of_batches_one_of_whose_owners_is_slow_now_and_then(
    make_network: Callable[..., MemoryNetwork], balancing: str
) -> None:
    """The slowest part of a batch is what its caller waits for. So few a second that none waits behind one that is slow."""
    tails: dict[bool, float] = {}
    extra: dict[bool, int] = {}
    for hedging in (True, False):
        network = make_network(3, 2)
        client = filled(network, hedging=hedging, balancing=balancing)
        late = Weather(one_way=NEAR.one_way, stall=0.01, stall_seconds=0.1)
        network.local_weather[(client.session.name, "n1")] = late
        percentile(network, client, 0.5, 500, batch=20, rate=5)
        tails[hedging] = percentile(network, client, 0.99, 1500, batch=20, rate=5)
        extra[hedging] = client.brain.counters.hedged_reads
    assert tails[True] <= 0.3 * tails[False]
    assert 0 < extra[True] <= 0.05 * 3 * 2000 + 1


@pytest.mark.parametrize("balancing", ["least_response_time", "primary"])
def test_batches_hardly_notice_a_node_that_answers_100_ms_later(
    make_network: Callable[..., MemoryNetwork], balancing: str
) -> None:
    network = make_network(3, 2)
    client = filled(network, balancing=balancing)
    healthy = percentile(network, client, 0.99, 1500, batch=20, rate=50)
    network.local_weather[(client.session.name, "n1")] = Weather(one_way=(0.051, 0.052))
    percentile(network, client, 0.99, 500, batch=20, rate=50)
    late = percentile(network, client, 0.99, 1500, batch=20, rate=50)
    assert late <= 2 * healthy
