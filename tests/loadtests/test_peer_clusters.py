from __future__ import annotations

import pytest

from loadtests import CannotRun, peer_clusters, peers
from loadtests.peer_clusters import SLOTS, memcached_servers, redis_cluster, slot_ranges
from loadtests.server_process import accepts


@pytest.mark.parametrize("nodes", [1, 2, 3, 6, 7, 1000, SLOTS])
def test_every_slot_belongs_to_exactly_one_node_and_the_shares_are_even(nodes: int) -> None:
    ranges = slot_ranges(nodes)
    assert [slot for first, last in ranges for slot in range(first, last + 1)] == list(range(SLOTS))
    sizes = [last - first + 1 for first, last in ranges]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("nodes", [0, -1, SLOTS + 1])
def test_a_number_of_nodes_that_cannot_be_is_refused(nodes: int) -> None:
    with pytest.raises(ValueError, match=str(nodes)):
        slot_ranges(nodes)


def ports_of(address: str) -> list[int]:
    return [int(it.rpartition(":")[2]) for it in address.split("://")[1].split(",")]


@pytest.mark.slow
@pytest.mark.parametrize("start", [redis_cluster, memcached_servers])
def test_the_servers_of_a_cluster_are_gone_afterwards(start: object) -> None:
    try:
        with start(3, 16) as address:  # type: ignore[operator]
            ports = ports_of(address)
            assert len(set(ports)) == 3
            assert all(accepts(port) for port in ports)
    except CannotRun as reason:
        pytest.skip(str(reason))
    assert not any(accepts(port) for port in ports)


@pytest.mark.slow
def test_each_node_of_a_redis_cluster_has_its_range_of_slots() -> None:
    redis = pytest.importorskip("redis")
    try:
        with redis_cluster(3, 16) as address, redis.Redis(port=ports_of(address)[0]) as client:
            told = sorted((int(first), int(last)) for first, last, *_ in client.execute_command("CLUSTER SLOTS"))
    except CannotRun as reason:
        pytest.skip(str(reason))
    assert told == slot_ranges(3)


@pytest.mark.parametrize("start", [redis_cluster, memcached_servers])
def test_a_missing_server_is_said_in_one_line_that_tells_what_to_install(
    start: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> str:
        raise CannotRun("no redis-server or valkey-server: apt install redis-server")

    monkeypatch.setattr(peers.shutil, "which", lambda name: None)
    monkeypatch.setattr(peers, "_embedded_valkey", missing)
    with pytest.raises(CannotRun, match="apt install"), start(3, 16):  # type: ignore[operator]
        pass
    assert peer_clusters.SLOTS == 16384
