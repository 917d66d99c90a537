"""The doctor: every check finds what it looks for, and a healthy cluster has nothing wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest
from deploy_files import DEPLOY

from kvcache.cluster.decisions import Report
from kvcache.cluster.doctor.facts import Facts, NodeFacts, Severity
from kvcache.cluster.doctor.table import CHECKS, diagnose
from kvcache_client.placement.topology import Member, Topology

GIB = 1 << 30
NODES = ("n1", "n2", "n3")
STATISTICS = {
    "node": {"version": "1.2.0"},
    "store": {
        "records": 50_000,
        "budget_bytes": GIB,
        "tombstones_dropped": 0,
        "tombstone_bytes": 0,
        "tombstone_budget_bytes": GIB // 16,
    },
    "stream": {"connections": 10},
    "hints": {"dropped": 0},
}
MACHINE = {
    "descriptors": 40,
    "descriptors_limit": 20_000,
    "swapped_bytes": 0,
    "machine_swapped_bytes": 0,
    "machine_memory_bytes": 8 * GIB,
    "memory_limit_bytes": None,
    "connections": 10_000,
    "connections_wanted": 10_000,
}
INFO = {
    "redis_version": "7.2.4",
    "run_id": "one",
    "role": "master",
    "maxmemory": 64 << 20,
    "used_memory": 1 << 20,
    "maxmemory_policy": "noeviction",
    "aof_enabled": 1,
    "loading": 0,
    "rdb_last_bgsave_status": "ok",
    "aof_last_write_status": "ok",
}
COORDINATOR = {
    "server": "redis://10.0.0.9:6379",
    "error": None,
    "ahead_ms": [-2, 1],
    "info": INFO,
    "save": "",
    "user": "kvcache",
    "open": False,
}


def topology(*members, replication_factor=2):
    founded = Topology.found("test", cluster_id="00aa00aa", seed=4711, replication_factor=replication_factor)
    for member in members or [member_of(id) for id in NODES]:
        founded = founded.with_member(member)
    return founded.settled()


def member_of(id, **fields):
    return Member(**({"id": id, "address": f"10.0.0.{id[1:]}:7700", "zone": f"zone-{id}"} | fields))


def node(id="n1", *, statistics=None, machine=None, coordinator=None, report=None):
    """Return what a healthy node tells, but for what is given."""
    merged = {section: {**rows, **(statistics or {}).get(section, {})} for section, rows in STATISTICS.items()}
    return NodeFacts(
        merged,
        report or Report(epoch=topology().epoch),
        MACHINE | {"machine": f"machine of {id}"} | (machine or {}),
        COORDINATOR | (coordinator or {}) | {"info": INFO | (coordinator or {}).get("info", {})},
    )


def facts(document=None, **nodes):
    document = document or topology()
    told = {member.id: node(member.id, report=Report(epoch=document.epoch)) for member in document.members}
    return Facts(document, told | nodes)


def found(seen, check):
    """Return what a check finds, as ``(severity, node, text)``; whatever it says comes with what to do."""
    findings = [finding for finding in diagnose(seen) if finding.check == check]
    assert all(finding.advice == CHECKS[check].advice != "" for finding in findings)
    return [(finding.severity, finding.node, finding.text) for finding in findings]


def test_nothing_is_wrong_with_a_healthy_cluster():
    assert diagnose(facts()) == []


def test_the_worst_comes_first():
    seen = facts(n1=node(machine={"machine_swapped_bytes": 5}), n2=node("n2", machine={"swapped_bytes": 5}))
    assert [finding.severity for finding in diagnose(seen)] == [Severity.ERROR, Severity.WARNING]


def test_the_table_of_the_runbook_is_the_one_in_the_code():
    rows = [f"| {check.name} | {check.looks_at} |" for check in CHECKS.values()]
    assert "\n".join(["|---|---|", *rows, ""]) in (DEPLOY / "README.md").read_text()


E, W, N = Severity.ERROR, Severity.WARNING, Severity.NOTE


TOLD = [
    ("answers", E, "does not answer: no route", NodeFacts(silence="no route")),
    ("answers", W, "UnknownVerb", NodeFacts(STATISTICS, unexamined="UnknownVerb 33")),
    ("epochs", E, "goes by epoch 1", node(report=Report(epoch=1))),
    ("versions", W, "1.1.0 on n1; 1.2.0 on n2, n3", node(statistics={"node": {"version": "1.1.0"}})),
    ("hints", W, "holds 7 records for n3", node(report=Report(epoch=topology().epoch, hints={"n3": 7}))),
    ("hints", W, "no room for 9 records", node(statistics={"hints": {"dropped": 9}})),
    ("tombstones", W, "forgotten 4 deletes", node(statistics={"store": {"tombstones_dropped": 4}})),
    ("tombstones", W, "in 90% of the room", node(statistics={"store": {"tombstone_bytes": int(GIB / 16 * 0.9)}})),
    ("connections", E, "room for 936 of 10000", node(machine={"connections": 936, "descriptors_limit": 1000})),
    ("connections", W, "has 9000 connections of 10000", node(statistics={"stream": {"connections": 9000}})),
    ("descriptors", W, "uses 17000 file descriptors of 20000", node(machine={"descriptors": 17_000})),
    ("descriptors", E, "uses 19900 file descriptors", node(machine={"descriptors": 19_900})),
    ("swap", E, "has 2MiB of its memory in swap", node(machine={"swapped_bytes": 2 << 20})),
    ("swap", W, "a machine that has 1GiB in swap", node(machine={"machine_swapped_bytes": GIB})),
    ("memory", E, "its control group allows 1GiB", node(machine={"memory_limit_bytes": GIB})),
    ("memory", E, "on a machine that has 1GiB", node(machine={"machine_memory_bytes": GIB})),
    ("balance", W, "times the mean of records", node(statistics={"store": {"records": 90_000}})),
    ("redis", E, "does not answer: refused", node(coordinator={"error": "coordination does not answer: refused"})),
    ("redis", E, "different servers", node(coordinator={"info": {"run_id": "two"}})),
    ("redis", E, "without a coordinator", replace(node(), coordinator=None)),
    ("redis-persistence", W, "keeps nothing on disk", node(coordinator={"info": {"aof_enabled": 0}})),
    ("redis-persistence", E, "bgsave_status is err", node(coordinator={"info": {"rdb_last_bgsave_status": "err"}})),
    ("redis-persistence", W, "still loading", node(coordinator={"info": {"loading": 1}})),
    ("redis-eviction", E, "policy is allkeys-lru", node(coordinator={"info": {"maxmemory_policy": "allkeys-lru"}})),
    ("redis-eviction", E, "of its maxmemory", node(coordinator={"info": {"used_memory": 63 << 20}})),
    ("redis-access", E, "without a password", node(coordinator={"open": True})),
    ("redis-access", N, "without a password", node(coordinator={"open": True, "server": "redis://127.0.0.1:1"})),
    ("redis-access", N, "the user 'default'", node(coordinator={"user": "default"})),
    ("redis-version", E, "is Redis 5.0.14", node(coordinator={"info": {"redis_version": "5.0.14"}})),
    ("redis-role", E, "is a slave", node(coordinator={"info": {"role": "slave"}})),
]


@pytest.mark.parametrize(("check", "severity", "text", "node_facts"), TOLD)
def test_what_one_node_tells_is_found(check, severity, text, node_facts):
    ((how_bad, where, said),) = found(facts(n1=node_facts), check)
    assert how_bad == severity
    assert where in ("n1", "")
    assert text in said


WRITTEN = [
    ("members", E, "is down", topology(member_of("n1", state="down"), member_of("n2"), member_of("n3"))),
    ("members", W, "is syncing", topology(member_of("n1", state="syncing"), member_of("n2"), member_of("n3"))),
    ("members", N, "is leaving", topology(member_of("n1", leaving=True), member_of("n2"), member_of("n3"))),
    ("copies", E, "2 copies of each key are wanted, and there is a member for 1", topology(member_of("n1"))),
    ("copies", W, "one copy", topology(replication_factor=1)),
    ("zones", W, "1 zones (a) for 2 copies", topology(member_of("n1", zone="a"), member_of("n2", zone="a"))),
    ("zones", N, "no member has a zone", topology(member_of("n1", zone=""), member_of("n2", zone=""))),
    (
        "balance",
        W,
        "times the mean of copies",
        topology(member_of("n1", zone="a"), *[member_of(id, zone="b") for id in ("n2", "n3", "n4")]),
    ),
]


@pytest.mark.parametrize(("check", "severity", "text", "document"), WRITTEN)
def test_what_the_document_tells_is_found(check, severity, text, document):
    findings = found(facts(document), check)
    assert [how_bad for how_bad, _, said in findings if text in said] == [severity]


def test_members_without_a_zone_are_named_where_others_have_one():
    document = topology(member_of("n1"), member_of("n2"), member_of("n3", zone=""))
    assert found(facts(document), "zones") == [(W, "", "n3 have no zone, and others do")]


def test_one_node_without_a_coordinator_is_a_cluster_that_wants_nothing():
    alone = topology(member_of("n1"))
    seen = facts(alone, n1=replace(node(report=Report(epoch=alone.epoch)), coordinator=None))
    assert {finding.severity for finding in diagnose(seen)} == {N}


def test_every_check_can_find_something():
    assert {row[0] for row in (*TOLD, *WRITTEN)} | {"clocks"} == set(CHECKS)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((-3, 2), (-100, -90), []),
        ((-3, 2), (-300, -290), [W]),
        ((250, 260), (-300, -290), [E]),  # each near enough to the coordinator, and too far from each other
        ((-900, 2), (-3, 800), []),  # answers that took so long tell nothing for certain
        ((600, 700), (600, 700), [E]),
    ],
)
def test_clocks_are_compared_as_far_as_the_answers_tell(first, second, expected):
    seen = facts(n1=node(coordinator={"ahead_ms": list(first)}), n2=node("n2", coordinator={"ahead_ms": list(second)}))
    assert [severity for severity, _, _ in found(seen, "clocks")] == expected


def test_the_clocks_that_are_apart_are_named_with_how_far():
    seen = facts(n2=node("n2", coordinator={"ahead_ms": [700, 710]}))
    ((_, _, text),) = found(seen, "clocks")
    assert "the coordinator and n2 are 700 ms apart" in text
    assert "n2 +705" in text


def test_budgets_of_nodes_on_one_machine_count_together():
    shared = {"machine": "the same", "machine_memory_bytes": 3 * GIB}
    seen = facts(**{id: node(id, machine=shared) for id in NODES})
    assert found(seen, "memory") == [(E, "n1", "n1, n2, n3 may need 3.48GiB on a machine that has 3GiB")]


def test_nodes_that_do_not_see_their_machine_are_on_one_if_they_have_one_address():
    document = topology(*[member_of(id, address=f"10.0.0.1:770{id[1:]}") for id in NODES])
    hidden = {"machine": "", "machine_memory_bytes": 3 * GIB}
    told = {id: node(id, machine=hidden, report=Report(epoch=document.epoch)) for id in NODES}
    assert len(found(facts(document, **told), "memory")) == 1
    apart = facts(**{id: node(id, machine=hidden) for id in NODES})
    assert found(apart, "memory") == []


def test_what_a_node_does_not_tell_is_not_judged():
    assert diagnose(facts(**{id: NodeFacts({}, None, {}, None) for id in NODES})) == []
    unknown = {"server": "redis://10.0.0.9:6379", "error": None, "info": {}}
    assert diagnose(facts(**{id: NodeFacts({}, None, {"machine": ""}, unknown) for id in NODES})) == []


def test_a_weight_is_a_larger_share_and_nothing_uneven():
    document = topology(member_of("n1", weight=4), *[member_of(f"n{number}") for number in range(2, 8)])
    assert found(facts(document, n1=node(statistics={"store": {"records": 200_000}})), "balance") == []
