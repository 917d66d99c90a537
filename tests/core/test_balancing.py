"""Which owner a read asks: one contract for all policies, what is particular to each, and what happens on the way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from memory_network import MemoryNetwork, cluster_of

from kvcache_client.core.balancing import POLICIES, Balancing, Owners, States, make_balancing
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.nodes import Nodes
from kvcache_client.placement.topology import Member
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.verbs import Verb

OWNERS = ("n1", "n2", "n3")


class Last:
    """A caller's own policy."""

    def choose(self, owners: Owners, nodes: States) -> str:
        return owners[-1]


def nodes_of(*members: Member) -> Nodes:
    nodes = Nodes()
    nodes.adopt(members or [Member(node, "h:1", zone) for node, zone in zip(OWNERS, "aab", strict=True)])
    return nodes


@pytest.fixture(params=[*POLICIES, Last()], ids=lambda it: it if isinstance(it, str) else "own")
def policy(request: pytest.FixtureRequest) -> Balancing:
    return make_balancing(request.param, random.Random(4711).random, "b")


def test_the_only_owner_is_chosen(policy: Balancing) -> None:
    assert {policy.choose(("n7",), nodes_of()) for _ in range(20)} == {"n7"}


@pytest.mark.parametrize("count", range(1, 9))
def test_one_of_the_owners_is_chosen_whatever_is_known_of_them(policy: Balancing, count: int) -> None:
    dice = random.Random(count)
    nodes = nodes_of()
    owners = tuple(f"n{number}" for number in range(count))
    for round_ in range(200):
        chosen = policy.choose(owners, nodes)
        assert chosen in owners
        nodes[chosen].observe(dice.expovariate(1000), round_ * 0.01)


def test_a_policy_can_be_chosen_by_name_per_client_and_per_call(network: MemoryNetwork, policy: Balancing) -> None:
    client = network.client(zone="b", balancing=policy)
    client.set("k", 1)
    assert client.get("k") == 1
    assert client.get("k", balancing=policy) == 1
    assert client.get_entry("k", balancing=policy).value == 1  # type: ignore[union-attr]
    assert client.get_many(["k"], balancing=policy) == {"k": 1}


def test_the_primary_is_always_the_first() -> None:
    primary = make_balancing("primary", random.random, "")
    assert {primary.choose(OWNERS, nodes_of()) for _ in range(9)} == {"n1"}


def test_round_robin_asks_each_as_often() -> None:
    turns = make_balancing("round_robin", random.random, "")
    assert Counter(turns.choose(OWNERS, nodes_of()) for _ in range(30)) == {"n1": 10, "n2": 10, "n3": 10}


def test_by_chance_each_comes_up_about_as_often() -> None:
    chance = make_balancing("random", random.Random(1).random, "")
    counts = Counter(chance.choose(OWNERS, nodes_of()) for _ in range(3000))
    assert all(900 < count < 1100 for count in counts.values())


def test_weights_are_respected() -> None:
    nodes = nodes_of(Member("n1", "h:1", weight=1), Member("n2", "h:2", weight=3))
    weighted = make_balancing("weighted", random.Random(1).random, "")
    counts = Counter(weighted.choose(("n1", "n2"), nodes) for _ in range(4000))
    assert 2.6 < counts["n2"] / counts["n1"] < 3.4


def test_the_nearest_zone_is_preferred_and_others_do_where_it_has_no_owner() -> None:
    near = make_balancing("nearest_zone", random.random, "b")
    nodes = nodes_of()
    assert {near.choose(OWNERS, nodes) for _ in range(20)} == {"n3"}
    assert {near.choose(("n1", "n2"), nodes) for _ in range(20)} == {"n1", "n2"}


@given(st.floats(0.001, 1.0), st.floats(4.0, 100.0))
def test_the_slower_of_two_is_asked_less_and_both_share_when_they_are_alike(seconds: float, times: float) -> None:
    least = make_balancing("least_response_time", random.random, "")
    nodes = nodes_of()
    nodes["n1"].observe(seconds * times, 1.0)
    nodes["n2"].observe(seconds, 1.0)
    counts = Counter(least.choose(("n1", "n2"), nodes) for _ in range(300))
    assert counts["n2"] > 1.5 * counts["n1"]


def test_requests_that_wait_count_so_a_burst_is_spread() -> None:
    least = make_balancing("least_response_time", random.random, "")
    nodes = nodes_of()
    assert set(Counter(least.choose(OWNERS, nodes) for _ in range(30)).values()) <= set(range(8, 13))


def test_a_node_that_was_slow_is_tried_again_some_time() -> None:
    nodes = nodes_of()
    nodes["n1"].observe(0.5, 0.0)
    for tenth in range(1, 200):
        nodes["n2"].observe(0.001, tenth / 10)
        nodes.is_time_to_decay(tenth / 10)
    assert nodes["n1"].ewma < 0.001


@pytest.mark.parametrize(
    ("balancing", "complaint"),
    [
        ("fastest", "balancing='fastest': must be one of primary, round_robin, random, weighted"),
        (7, "balancing=7: must be the name of a policy or an object with choose"),
        (Last, "must be the name of a policy or an object"),
        ("nearest_zone", "needs zone="),
    ],
)
def test_what_is_no_policy_is_refused(network: MemoryNetwork, balancing: Any, complaint: str) -> None:
    with pytest.raises(InvalidOption, match=complaint):
        ClientConfig(balancing=balancing)
    client = network.client()
    for read in (client.get, client.get_entry):
        with pytest.raises(InvalidOption, match=complaint):
            read("k", balancing=balancing)
    with pytest.raises(InvalidOption, match=complaint):
        client.get_many(["k"], balancing=balancing)


def test_a_policy_that_chooses_somebody_else_is_told_so(network: MemoryNetwork) -> None:
    class Stray:
        def choose(self, owners: Owners, nodes: States) -> str:
            return "n99"

    with pytest.raises(InvalidOption, match="chose 'n99', which is none of"):
        network.client(balancing=Stray()).get("k")


def test_reads_and_batches_of_reads_are_spread_over_all_owners(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 3)
    client = network.client()
    keys = [f"k{number}" for number in range(300)]
    client.set_many(dict.fromkeys(keys, 1))
    calls = [client.later.get(key) for key in keys]
    network.run(until=lambda: all(call.done for call in calls))
    assert [call.result() for call in calls] == [1] * len(keys)
    assert client.get_many(keys) == dict.fromkeys(keys, 1)
    asked = [node.asked for node in network.nodes.values()]
    assert all(counts[Verb.GET] > 50 for counts in asked)
    assert all(counts[Verb.GET_MANY] == 1 for counts in asked)


def test_a_client_knows_zones_and_weights_of_the_members(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(3, 2)
    network.change(cluster_of(3, 2, zones=("a", "b", "c")))
    client = network.client(zone="b", balancing="nearest_zone")
    client.set_many({f"k{number}": 1 for number in range(60)})
    for number in range(60):
        client.get(f"k{number}")
    near = next(member.id for member in network.topology.members if member.zone == "b")
    mine = [number for number in range(60) if near in {node.id for node in network.owners(f"k{number}")}]
    assert network.nodes[near].asked[Verb.GET] == len(mine)
