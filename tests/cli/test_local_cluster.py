"""The parts of a local cluster that need no cluster: ports, plans, and failures half-way."""

from __future__ import annotations

import socket

import pytest

from kvcache.commands import local_cluster
from kvcache.commands.local_cluster import LocalCluster, LocalPlan, choose_ports, describe_exit
from kvcache_client.protocol.errors import InvalidOption, NodeFault, NotReady


def test_free_ports_differ():
    ports = choose_ports(LocalPlan(nodes=20, port=0))
    assert len(set(ports)) == 20


def test_several_taken_ports_are_all_named():
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        first = one.getsockname()[1]
        try:
            two.bind(("127.0.0.1", first + 1))
        except OSError:
            pytest.skip("the next port belongs to somebody else")
        one.listen()
        two.listen()
        with pytest.raises(InvalidOption, match=f"ports {first}, {first + 1} are taken.*--port") as caught:
            choose_ports(LocalPlan(nodes=2, port=first))
    suggested = int(str(caught.value).rpartition(" ")[2])
    assert suggested == 0 or suggested > first


def test_an_exit_code_is_put_into_words():
    assert describe_exit(-9) == "was killed by signal 9"
    assert describe_exit(2) == "ended with code 2"


async def test_a_node_that_ends_before_it_is_ready_fails_the_start_and_everything_is_stopped(monkeypatch):
    monkeypatch.setattr(local_cluster.sys, "executable", "/bin/false")
    cluster = LocalCluster(LocalPlan(nodes=2, port=0))

    async def no_server():
        return None

    monkeypatch.setattr(cluster.valkey, "start", no_server)
    with pytest.raises(NodeFault, match=r"node-[12] on 127\.0\.0\.1:\d+ ended with code 1 before it was ready"):
        async with cluster:
            pytest.fail("it was never ready")
    assert cluster.nodes == []


async def test_nodes_that_never_agree_are_given_up(monkeypatch):
    monkeypatch.setattr(local_cluster, "READY_SECONDS", 0.2)

    async def never(node, secrets):
        return None

    monkeypatch.setattr(local_cluster, "_topology_of", never)
    with pytest.raises(NotReady, match=r"1 nodes formed no cluster in 0\.2 s"):
        async with LocalCluster(LocalPlan(nodes=1, port=0, log_level="error")):
            pytest.fail("it was never ready")


async def test_a_running_cluster_knows_its_seeds_and_its_nodes_end_with_code_0():
    async with LocalCluster(LocalPlan(nodes=2, port=0, log_level="error")) as cluster:
        nodes = cluster.nodes
        assert cluster.seeds == ",".join(node.address for node in nodes)
        assert repr(cluster).startswith(f"<LocalCluster {cluster.seeds}")
    assert cluster.seeds == ""
    assert [node.process.returncode for node in nodes] == [0, 0]
