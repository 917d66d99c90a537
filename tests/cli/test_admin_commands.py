"""``kvcache admin``: what is handed to the library, what is printed, and how it ends."""

from __future__ import annotations

import json

import pytest

from kvcache.cluster.doctor import gathering
from kvcache.cluster.doctor.table import CHECKS
from kvcache.commands import admin as commands
from kvcache_client.protocol.errors import AdminBusy, ControlPlaneUnavailable, DeadlineExceeded, SnapshotDamaged

CHANGED = {"epoch": 9, "fence": 3, "unconfirmed": []}
MOVES = {
    "moves": [{"from": "a", "to": "b", "partitions": 5, "records": 7, "bytes": 2048}],
    "partitions": 5,
    "records": 7,
    "bytes": 2048,
}


class FakeAdmin:
    """Remembers what it was asked, and answers what a test gave it."""

    def __init__(self) -> None:
        self.asked = []
        self.answers = {}

    def __getattr__(self, name):
        async def operation(*arguments, **options):
            options.pop("progress", None)
            self.asked.append((name, *arguments, options))
            answer = self.answers.get(name, CHANGED)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return operation


@pytest.fixture
def fake(monkeypatch):
    made = FakeAdmin()

    def operate(seeds, work, *, quiet):
        import asyncio

        return asyncio.run(work(made, lambda progress: None))

    monkeypatch.setattr(commands, "_operate", operate)
    return made


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (("flush", "--yes"), ("flush", {})),
        (("purge", "shop:"), ("purge", "shop:", {})),
        (("drain", "n1", "--wait", "5"), ("drain", "n1", {"wait": 5.0})),
        (("remove", "n1", "--force", "-y", "--wait", "0"), ("remove", "n1", {"force": True, "wait": 0.0})),
        (("reweight", "n1", "3"), ("reweight", "n1", 3, {"wait": 3600.0})),
        (("replicas", "2"), ("replicas", 2, {"wait": 3600.0})),
        (("throttle", "100"), ("throttle", 100, {})),
        (("cancel",), ("cancel", {})),
    ],
)
def test_an_operation_is_asked_for_as_it_was_typed(run, fake, words, asked):
    result = run("admin", *words)
    assert result.exit_code == 0
    assert fake.asked == [asked]
    assert json.loads(run("admin", *words, "--json").stdout) == CHANGED


def test_who_has_not_confirmed_yet_is_named(run, fake):
    fake.answers["purge"] = CHANGED | {"unconfirmed": ["n3"]}
    assert "not yet known to n3" in run("admin", "purge", "x").stdout


@pytest.mark.parametrize("words", [("flush",), ("remove", "n1")])
def test_where_nobody_can_be_asked_what_destroys_wants_a_yes(run, fake, words):
    result = run("admin", *words)
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert fake.asked == []


def test_an_empty_prefix_is_no_purge(run, fake):
    result = run("admin", "purge", "")
    assert result.exit_code == 2
    assert "flush" in result.stderr


def test_a_dry_run_is_shown_as_a_table_and_is_the_only_rebalancing(run, fake):
    fake.answers["dry_run"] = MOVES
    shown = run("admin", "rebalance", "--dry-run")
    assert "2KiB" in shown.stdout
    assert json.loads(run("admin", "rebalance", "--dry-run", "--json").stdout) == MOVES
    assert run("admin", "rebalance").exit_code == 2


def test_repair_tells_how_much_was_copied(run, fake):
    fake.answers["repair"] = {"partitions": 16384, "compared": 9, "copied": 4, "fence": 1, "skipped": {}}
    assert run("admin", "repair").stdout == "16384 partitions compared, 4 records copied\n"


def test_locks_are_a_table(run, fake):
    fake.answers["locks"] = [{"resource": "job", "owner": "ann", "doing": "repair", "fence": 4, "lease_left_ms": 900}]
    assert "ann" in run("admin", "locks").stdout
    assert json.loads(run("admin", "locks", "--json").stdout)[0]["fence"] == 4


def test_waiting_for_health_says_no_by_its_exit_code(run, fake):
    fake.answers["wait_healthy"] = DeadlineExceeded("not healthy within 1 s: n3 is down")
    result = run("admin", "wait-healthy", "--timeout", "1")
    assert result.exit_code == 1
    assert "n3 is down" in result.stdout
    assert json.loads(run("admin", "wait-healthy", "--json").stdout)["healthy"] is False


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AdminBusy("held by ann since 9:00: repair"), 3),
        (ControlPlaneUnavailable("no coordination"), 3),
        (SnapshotDamaged("segment-000001 at 17"), 4),
    ],
)
def test_errors_are_one_line_and_an_exit_code(run, fake, error, code):
    fake.answers["repair"] = error
    result = run("admin", "repair")
    assert result.exit_code == code
    assert result.stderr == f"{type(error).__name__}: {error}\n"


def test_a_real_cluster_is_operated(up, shell, tmp_path):
    cluster = up("--nodes", "2", "--json")
    seeds = ",".join(node["address"] for node in cluster.facts()["nodes"])

    def kvcache(*words):
        return shell(*words, "--seeds", seeds)

    assert kvcache("set", "user:1", "Ada").returncode == 0
    assert "1 records" in kvcache("admin", "snapshot", str(tmp_path / "one")).stdout
    assert kvcache("admin", "flush", "--yes").returncode == 0
    assert kvcache("get", "user:1").returncode == 1
    assert "1 records restored" in kvcache("admin", "restore", str(tmp_path / "one")).stdout
    assert kvcache("get", "user:1").stdout == "Ada\n"
    assert kvcache("admin", "drain", "nobody").returncode == 2
    assert kvcache("admin", "wait-healthy").returncode == 0
    examined = kvcache("admin", "doctor", "--json")
    told = json.loads(examined.stdout)
    on_this_machine = {"swap", "memory"}  # what the machine of the tests has to spare is its own affair
    assert {row["check"] for row in told["findings"]} - on_this_machine == {
        "zones",
        "redis-persistence",
        "redis-access",
    }
    assert {row["check"] for row in told["findings"] if row["severity"] == "error"} <= on_this_machine
    assert told["checks"] == list(CHECKS)
    assert examined.returncode == (0 if told["healthy"] else 1)
    assert cluster.stop() == 0


def found(severity):
    return {"severity": severity, "check": "swap", "node": "n1", "text": "has 2MiB in swap", "advice": "swapoff -a"}


@pytest.mark.parametrize(("severity", "code"), [("error", 1), ("warning", 0), ("note", 0)])
def test_the_doctor_says_what_to_do_and_fails_at_errors_only(run, fake, monkeypatch, severity, code):
    outcome = {"members": 3, "checks": ["swap"], "healthy": code == 0, "findings": [found(severity)]}
    monkeypatch.setattr(gathering, "examine", lambda admin: answered(outcome))
    shown = run("admin", "doctor")
    assert shown.exit_code == run("admin", "doctor", "--json").exit_code == code
    assert f"{severity} (swap) n1: has 2MiB in swap\n    swapoff -a\n3 members, 1 checks: " in shown.stdout
    assert json.loads(run("admin", "doctor", "--json").stdout) == outcome


async def answered(outcome):
    return outcome
