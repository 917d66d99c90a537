"""kvcache status: members, shares, and the ones that cannot be reached."""

from __future__ import annotations

import json

import pytest

from kvcache.commands import status
from kvcache_client.placement.topology import Member, Topology
from kvcache_client.protocol.errors import ConnectFailed

FOUNDED = Topology.found("shop", cluster_id="0123456789abcdef", seed=1, replication_factor=2)
TOPOLOGY = (
    FOUNDED.with_member(Member("a", "127.0.0.1:1", zone="east"))
    .with_member(Member("b", "127.0.0.1:2", weight=3))
    .settled()
)
TOLD = {
    "node": {},
    "store": {"records": 1234, "used_bytes": 3 << 20, "budget_bytes": 64 << 20},
    "topology": {"epoch": 3},
}


class FakeClient:
    def __init__(self, statistics):
        self.statistics = statistics

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def topology(self):
        return TOPOLOGY

    def node_statistics(self):
        return self.statistics


@pytest.fixture
def cluster(monkeypatch):
    return lambda **told: monkeypatch.setattr(status, "connect", lambda seeds, timeout: FakeClient(told))


def test_each_member_has_a_line_with_its_share(run, cluster):
    cluster(a=TOLD, b=TOLD)
    result = run("status")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert lines[0] == "cluster shop, epoch 3, copies of each key 2, members 2"
    assert lines[4].split()[:6] == ["a", "127.0.0.1:1", "east", "1", "up", "yes"]
    assert "1234" in lines[4]
    assert "3MiB of 64MiB" in lines[4]
    assert "100.0%" in lines[4]


def test_a_member_that_cannot_be_reached_is_shown_and_has_code_1(run, cluster):
    cluster(a=TOLD, b=ConnectFailed("refused"))
    result = run("status")
    assert result.exit_code == 1
    assert "ConnectFailed: refused" in result.stdout


def test_json_has_every_fact(run, cluster):
    cluster(a=TOLD, b=ConnectFailed("refused"))
    result = run("status", "--json")
    facts = json.loads(result.stdout)
    assert (facts["cluster"], facts["epoch"], facts["replication_factor"]) == ("shop", 3, 2)
    one, two = facts["members"]
    assert (one["records"], one["reachable"], one["error"], one["copies"]) == (1234, True, None, 16384)
    assert (two["records"], two["reachable"], two["error"]) == (None, False, "ConnectFailed: refused")
    assert one["primaries"] + two["primaries"] == 16384
    assert result.exit_code == 1


def test_a_member_that_the_statistics_do_not_know_is_unreachable(run, cluster):
    cluster(a=TOLD)
    result = run("status", "--json")
    assert result.exit_code == 1
    assert [member["reachable"] for member in json.loads(result.stdout)["members"]] == [True, False]
