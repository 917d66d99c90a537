"""The runbook works: each procedure is typed as it stands there, and the cluster keeps what it holds meanwhile."""

import json
import signal
import threading
from contextlib import contextmanager

import pytest
from operating import Operated, Shell, blocks, sections, steps
from polling import wait_until

from kvcache_client import Client, KvCacheError

KEYS = {f"user:{number}": number for number in range(200)}
ELSEWHERE = {
    "Install": "test_systemd, test_containers, and what needs Docker or Kubernetes only checked there",
    "Change a running cluster": "only says what start, stop and restart are",
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with Operated(tmp_path_factory.mktemp("etc")) as operated:
        with client(operated) as cache:
            wait_until(lambda: settled(cache.topology()))
            cache.set_many(KEYS).raise_failed()
        yield operated


def settled(topology):
    """Say whether all three own something: what is written before that may have one copy."""
    return len(topology.layout.ids) == 3 and topology.move is None


def client(cluster, secret="the-old-secret-of-clients"):
    return Client(cluster.seeds, secret=secret, timeout=2.0)


@contextmanager
def watched(cluster):
    """Read all the time, and at the end every key; nothing may be missing."""
    ended = threading.Event()
    missing = set()

    def read():
        with client(cluster) as cache:
            while not ended.wait(0.05):
                missing.update(cache.get_many(KEYS).missing)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield
    finally:
        ended.set()
        reader.join()
    assert missing == set()
    everything_is_there(cluster)


def everything_is_there(cluster, secret="the-old-secret-of-clients"):
    with client(cluster, secret) as cache:
        found = cache.get_many(KEYS)
        assert (found.failed, found.missing) == ({}, frozenset())
        assert dict(found) == KEYS


@pytest.fixture
def typed(cluster, tmp_path):
    """Type a section of the runbook, step by step; yield each with its exit code and what it printed."""

    def type_section(section, **names):
        with Shell(cluster, tmp_path, {name.replace("_", "-"): node for name, node in names.items()}) as shell:
            for step in steps(section):
                yield step, *shell.run(step)

    return type_section


def lives(cluster):
    return {node: process.process.pid for node, process in cluster.processes.items()}


def members(cluster):
    with client(cluster) as cache:
        return {member.id: member.state for member in cache.topology().members}


def test_what_is_not_typed_here_is_tested_elsewhere():
    typed_here = {
        *("Rolling upgrade", "Make a cluster smaller", "Replace a dead node", "Lost Redis"),
        *("Suspected split", "Rotate secrets"),
    }
    assert {section for section in sections() if blocks(section)} == typed_here | set(ELSEWHERE)


def test_a_dead_node_is_replaced(cluster, typed):
    dead = cluster.living[-1]
    cluster.kill(dead)
    with watched(cluster):
        for step, code, printed in typed("Replace a dead node", cache_3=dead, cache_4="cache-4"):
            assert code == 0, (step, printed)
    assert members(cluster) == dict.fromkeys(cluster.living, "up")
    assert "cache-4" in cluster.living


def test_a_lost_redis_is_given_back_what_it_held(cluster, typed):
    cluster.stop("redis")
    with watched(cluster):
        done = list(typed("Lost Redis"))
    (_, sick, found), *between, (_, healthy, later) = done
    assert (sick, found.count("error (redis)")) == (1, len(cluster.living))
    assert "see 'Lost Redis'" in found
    assert [code for _, code, _ in between] == [0] * len(between)
    assert "error (redis" not in later, later
    assert healthy == 0, later
    assert "ControlPlaneUnavailable" not in between[-1][2]


def test_a_node_that_is_cut_off_is_seen_and_catches_up(cluster, typed):
    cut_off = cluster.living[-1]
    looks = typed("Suspected split")
    cluster.processes[cut_off].signal(signal.SIGSTOP)
    try:
        _, code, printed = next(looks)
        assert code == 1
        unseen = [row["id"] for row in json.loads(printed)["members"] if not row["reachable"]]
        assert unseen == [cut_off]
        _, code, printed = next(looks)
        # Where this took as long as a failure detector waits, the others have marked it down, and the doctor goes by that.
        told = [check for check in ("answers", "states") if f"error ({check}) {cut_off}" in printed]
        assert (code, len(told)) == (1, 1), printed
    finally:
        cluster.processes[cut_off].signal(signal.SIGCONT)
    _, code, printed = next(looks)
    assert code == 0, printed
    _, code, printed = next(looks)
    assert code == 0
    told = json.loads(printed)
    assert {row["epoch"] for row in told["members"]} == {told["epoch"]}
    assert list(looks) == []


def test_a_cluster_is_made_smaller(cluster, typed):
    drained = cluster.living[-1]
    with watched(cluster):
        for step, code, printed in typed("Make a cluster smaller", cache_3=drained):
            assert code == 0, (step, printed)
    assert members(cluster) == dict.fromkeys(cluster.living, "up")
    assert drained not in cluster.living


def two_of_three(cluster):
    """Return what the three nodes of the runbook stand for where two are enough to see it work."""
    first, second = cluster.living[:2]
    return {"cache_1": first, "cache_2": second, "cache_3": ""}


def test_nodes_are_upgraded_one_by_one(cluster, typed):
    before = lives(cluster)
    with watched(cluster):
        (_, code, printed), (_, healthy, found) = typed("Rolling upgrade", **two_of_three(cluster))
    assert code == 0
    assert "stopped at" not in printed, printed
    assert printed.count("healthy: ") == 2
    assert healthy == 0, found
    assert before.keys() == lives(cluster).keys()
    assert before.items().isdisjoint(lives(cluster).items())


def test_a_loop_ends_where_a_node_does_not_come_back(cluster, typed):
    before = lives(cluster)
    (_, _, printed), _ = typed("Rolling upgrade", cache_1="cache-99", cache_2=cluster.living[0], cache_3="")
    assert printed == "stopped at cache-99\n"
    assert lives(cluster) == before


def test_secrets_are_exchanged(cluster, typed, tmp_path):
    new = "client the-new-secret-of-clients\nnode the-new-secret-of-nodes\nadmin the-new-of-admins\n"
    (tmp_path / "secret.new").write_text(new)
    (tmp_path / "secret.new").chmod(0o600)
    restarted = {"cache_1": cluster.living[0], "cache_2": "", "cache_3": ""}  # the others read the file themselves
    for step, code, printed in typed("Rotate secrets", **restarted):
        assert code == 0, (step, printed)
        assert "stopped at" not in printed, printed
        if step.startswith("export"):  # both are good while clients change
            for secret in ("the-old-secret-of-clients", "the-new-secret-of-clients"):
                wait_until(lambda secret=secret: refusal(cluster, secret) == "")
                everything_is_there(cluster, secret)
    everything_is_there(cluster, "the-new-secret-of-clients")
    wait_until(lambda: "secret" in refusal(cluster))


def refusal(cluster, secret="the-old-secret-of-clients"):
    """Return what a client with this secret is told; nothing if it is let in."""
    try:
        with client(cluster, secret) as cache:
            cache.get("user:1")
    except KvCacheError as error:
        return str(error)
    return ""
