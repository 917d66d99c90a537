"""Looking at the cluster: topology, counters, and where a key lives."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from memory_network import MemoryNetwork, cluster_of

from kvcache_client.core.inspecting import read_topology
from kvcache_client.core.results import BatchResult
from kvcache_client.protocol.errors import ConnectFailed, InvalidKey, MalformedFrame, NotReady, TopologyError


def test_explain_shows_every_place_where_a_key_may_lie(network: MemoryNetwork) -> None:
    client = network.client()
    version = client.set("k", 1, ttl=10)
    told = client.explain("k")
    assert told.key == b"k"
    assert told.partition == client.brain.require_view().partition(b"k")
    assert told.epoch == network.topology.epoch
    places = [*network.owners("k"), *network.stand_ins("k")]
    assert [copy.node for copy in told.copies] == [node.id for node in places]
    assert [copy.role for copy in told.copies] == ["primary", "owner", "stand-in", "stand-in"]
    assert [copy.version for copy in told.copies] == [version, version, None, None]
    assert {copy.state for copy in told.copies} == {"up"}
    expiry = told.copies[0].expiry_ms
    assert expiry is not None
    assert 9_900 < expiry - network.wall_ms() <= 10_000
    json.dumps(told.as_dict())
    assert (told.cluster, told.move, told.balancing) == ("test", None, "least_response_time")
    assert told.read_from in {node.id for node in network.owners("k")}
    assert told.copies[0].why == "number 1 on the ring"
    assert all("on the ring" in copy.why for copy in told.copies)
    assert any("first in line" in copy.why for copy in told.copies[2:])
    assert {copy.member for copy in told.copies} == {"up"}
    assert {copy.last_error for copy in told.copies} == {None}


def test_explain_shows_tombstones_stand_ins_and_who_is_away(network: MemoryNetwork) -> None:
    client = network.client()
    client.set("k", 1)
    network.owners("k")[0].kill()
    client.delete("k")
    told = client.explain("k")
    primary, second, stand_in, other = told.copies
    assert primary.state.startswith("down: ")
    assert primary.error is not None
    assert primary.error.startswith("ConnectFailed: ")
    assert second.tombstone
    assert stand_in.tombstone
    assert stand_in.kept_for == (primary.node,)
    assert (second.kept_for, other.kept_for) == ((), ())
    assert (other.version, other.error) == (None, None)
    assert told.read_from == second.node
    assert primary.last_error is not None
    assert primary.last_error.startswith("ConnectionLost: ") or primary.last_error.startswith("ConnectFailed: ")
    assert primary.last_error.endswith(" s ago)")


def test_explain_names_zones_and_open_breakers(make_network: Callable[..., MemoryNetwork]) -> None:
    network = make_network(4, 2)
    network.change(cluster_of(4, 2, zones=("east", "west")))
    client = network.client()
    told = client.explain("k")
    assert {copy.zone for copy in told.copies[:2]} == {"east", "west"}
    for _ in range(3):
        client.brain.breaker.failed(told.copies[0].node, "it said Overloaded")
    again = client.explain("k")
    assert again.copies[0].state == "open: it said Overloaded"
    assert again.read_from == told.copies[1].node
    walk = list(client.brain.require_view().routes.placement.walk(told.partition))
    passed = [node for node in walk[: walk.index(told.copies[1].node)] if node != told.copies[0].node]
    for node in passed:
        assert f"passed over {node}: its zone has its copies" in told.copies[1].why


def test_explain_shows_any_key_as_text(network: MemoryNetwork) -> None:
    assert network.client().explain(b"\xff\x00k").as_dict()["key"] == "\\xff\x00k"
    with pytest.raises(InvalidKey):
        network.client().explain("")


def test_the_topology_is_the_newest_that_can_be_learnt(network: MemoryNetwork) -> None:
    client = network.client()
    assert client.topology() == network.topology
    newer = cluster_of(5, 2)
    network.change(newer, only=["n2"])
    assert client.topology() in (newer, cluster_of(4, 2))  # three nodes are asked, and only one knows
    network.change(newer)
    assert client.topology() == newer
    for node in network.nodes.values():
        node.cut()
    assert client.topology() == newer  # nobody tells, so what was known stays


def test_counters_of_each_node_or_why_it_did_not_tell(network: MemoryNetwork) -> None:
    client = network.client()
    network.nodes["n3"].kill()
    told = client.node_statistics()
    assert set(told) == set(network.nodes)
    assert isinstance(told["n3"], ConnectFailed)
    assert told["n1"] == {}


def test_a_reply_that_holds_no_topology_is_refused(network: MemoryNetwork) -> None:
    for reply in ((1, 0), (1, 0, 5), (1, 0, 5, "text"), (1, 0, 5, None)):
        with pytest.raises(MalformedFrame):
            read_topology(reply)
    with pytest.raises(TopologyError):
        read_topology((1, 0, 5, b"{}"))
    with pytest.raises(NotReady):
        read_topology((1, NotReady.code, "not yet", None))
    assert read_topology((1, 0, 5, network.topology.to_json())) == network.topology


def test_a_batch_result_is_a_mapping_of_the_successes() -> None:
    error = ConnectFailed("gone")
    result: BatchResult[int] = BatchResult({"a": 1, b"b": 2}, frozenset({"c"}), {"d": error})
    assert dict(result) == {"a": 1, b"b": 2}
    assert (len(result), "a" in result, "c" in result, "d" in result) == (2, True, False, False)
    assert result.get("c", 9) == 9
    with pytest.raises(KeyError):
        result["c"]
    with pytest.raises(ConnectFailed):
        result.raise_failed()
    assert repr(result) == "<BatchResult found=2 missing=1 failed=1>"
