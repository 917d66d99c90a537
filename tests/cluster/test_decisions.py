"""What a controller makes of what it sees; and whole lives of clusters under controllers that come and go."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from kvcache.cluster import changes
from kvcache.cluster.decisions import Report, Sight, decide, waiting_for
from kvcache_client.placement.topology import Member, Topology

DOWN_AFTER = 5.0


def node(number: int, incarnation: str = "a") -> Member:
    return Member(f"n{number}", f"127.0.0.1:{7700 + number}", incarnation=incarnation)


def cluster(nodes: int = 3, copies: int = 2) -> Topology:
    topology = Topology.found("shop", cluster_id="00c0ffee", seed=1, replication_factor=copies, vnodes=4)
    for number in range(1, nodes + 1):
        topology = topology.with_member(node(number))
    return topology.settled()


def sight(topology: Topology, missing: dict[str, float] | None = None, **reports: Report | None) -> Sight:
    session = topology.move.id if topology.move else ""
    told = {m.id: Report(topology.epoch, m.incarnation, session) for m in topology.members if m.state != "down"}
    told |= reports  # type: ignore[arg-type]
    return Sight(missing or {}, {id: report for id, report in told.items() if report is not None})


def step(topology: Topology, seen: Sight | None = None) -> Topology:
    return decide(topology, seen or sight(topology), now_ms=9, new_id="00aa00aa", down_after=DOWN_AFTER)


def joining() -> Topology:
    return changes.registered(cluster(), node(4))


def at(stage: str) -> Topology:
    topology = step(joining())
    while topology.move is not None and topology.move.stage != stage:
        topology = changes.advance_move(topology)
    return topology


def test_in_good_times_nothing_is_decided() -> None:
    topology = cluster()
    assert step(topology) is topology


def test_who_is_missing_for_long_is_down_and_nobody_sooner() -> None:
    topology = cluster()
    assert step(topology, sight(topology, {"n2": 4.9})) is topology
    after = step(topology, sight(topology, {"n2": 5.1}))
    assert [member.state for member in after.members] == ["up", "down", "up"]


def test_when_most_are_missing_it_is_rather_the_controller_that_is_alone() -> None:
    topology = cluster()
    assert step(topology, sight(topology, {"n2": 9.0, "n3": 9.0})) is topology


def test_a_newcomer_that_answers_begins_a_move_and_a_silent_one_waits() -> None:
    topology = joining()
    assert step(topology, sight(topology, n4=None)) is topology
    move = step(topology).move
    assert move is not None
    assert (move.stage, move.id, move.reason, move.began_ms) == ("prepare", "00aa00aa", "join n4", 9)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda topology: changes.drain(topology, "n2"), "leave n2"),
        (lambda topology: changes.reweight(topology, "n2", 4), "reweight n2 1 to 4"),
        (lambda topology: changes.replicas(topology, 3), "copies 2 to 3"),
    ],
)
def test_the_reason_of_a_move_is_told(change: Any, reason: str) -> None:
    move = step(change(cluster())).move
    assert move is not None
    assert move.reason == reason


@pytest.mark.parametrize("stage", ["prepare", "stream", "switch"])
def test_a_stage_waits_for_every_living_node_to_know_of_it(stage: str) -> None:
    topology = at(stage)
    late = sight(topology, n1=Report(topology.epoch - 1, "a", "00aa00aa"))
    assert step(topology, late) is topology
    assert waiting_for(topology, late) == [f"n1 is at epoch {topology.epoch - 1} of {topology.epoch}"]
    assert waiting_for(topology, sight(topology, n3=None)) == ["n3 does not answer"]
    assert step(topology) == changes.advance_move(topology)


def test_the_switch_waits_for_receivers_and_for_what_is_held_for_them() -> None:
    topology = at("stream")
    epoch = topology.epoch
    assert step(topology, sight(topology, n4=Report(epoch, "a", "00aa00aa", left=1))) is topology
    assert step(topology, sight(topology, n4=Report(epoch, "a", "another move"))) is topology
    assert step(topology, sight(topology, n1=Report(epoch, "a", "00aa00aa", hints={"n4": 2}))) is topology
    assert step(topology, sight(topology, n1=Report(epoch, "a", "00aa00aa", hints={"n9": 2}))) != topology


def test_after_the_switch_a_node_that_still_loads_is_waited_for() -> None:
    topology = at("switch")
    assert step(topology, sight(topology, n4=Report(topology.epoch, "a", left=3))) is topology


def test_one_that_is_down_holds_nothing_up() -> None:
    topology = changes.marked(at("prepare"), ["n2"], "down")
    after = step(topology)
    assert after.move is not None
    assert after.move.stage == "stream"


def test_what_is_kept_for_one_that_is_down_holds_no_move_up() -> None:
    topology = changes.marked(at("stream"), ["n2"], "down")
    seen = sight(topology, n1=Report(topology.epoch, "a", "00aa00aa", hints={"n2": 5}))
    assert waiting_for(topology, seen) == []
    after = step(topology, seen)
    assert after.move is not None
    assert after.move.stage == "switch"


@pytest.mark.parametrize("stage", ["prepare", "stream"])
def test_a_move_whose_receiver_died_is_given_up_and_not_tried_again_with_it(stage: str) -> None:
    topology = changes.marked(at(stage), ["n4"], "down")
    given_up = step(topology)
    assert given_up.move is None
    assert given_up.layout == cluster().layout
    assert step(given_up) is given_up


def test_one_that_was_to_leave_and_owns_nothing_is_let_go() -> None:
    topology = joining()
    wished = replace(topology, members=tuple(replace(m, leaving=m.id == "n4") for m in topology.members))
    assert step(wished).member("n4") is None


@pytest.mark.parametrize("garbage", [{}, {"epoch": "7", "hints": [1], "left": -4}, {"hints": {"a": "x"}, "session": 5}])
def test_a_report_that_makes_no_sense_says_nothing(garbage: dict[str, Any]) -> None:
    report = Report.from_fields(garbage)
    assert (report.epoch, report.left) == (0, 0)
    assert set(report.hints.values()) <= {0}


def test_a_report_is_read_as_it_was_sent() -> None:
    fields = {"epoch": 7, "incarnation": "a", "session": "s", "left": 3, "total": 9, "records": 5, "bytes": 6}
    maps = {"hints": {"n1": 2}, "fences": {"job": 4}}
    assert Report.from_fields(fields | maps | {"later": 1}) == Report(**fields, **maps)  # type: ignore[arg-type]


class Life:
    """A cluster whose nodes live, die and pull as chance wants; the controller is ``decide`` and nothing else."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.topology = cluster(3)
        self.alive = {member.id: member.incarnation for member in self.topology.members}
        self.known = dict.fromkeys(self.alive, self.topology.epoch)
        self.left: dict[tuple[str, str], int] = {}
        self.born = 3
        self.missing: dict[str, float] = {}

    def chance(self, *, calm: bool) -> None:
        """Let one thing happen. In calm times nodes only come back, learn and pull."""
        deed = self.dice.choice(["learn", "learn", "pull", "return"] if calm else self._deeds())
        getattr(self, "_" + deed)()

    def _deeds(self) -> list[str]:
        return ["learn", "learn", "learn", "pull", "pull", "die", "return", "join", "drain", "reweight"]

    def _learn(self) -> None:
        self.known[self.dice.choice(sorted(self.alive))] = self.topology.epoch

    def _pull(self) -> None:
        move = self.topology.move
        if move is not None:
            for id in self.alive:
                if self.known.get(id) == self.topology.epoch:
                    left = self.left.get((id, move.id), 5)
                    self.left[id, move.id] = max(0, left - self.dice.randint(1, 3))

    def _die(self) -> None:
        if len(self.alive) > 2 and not any(member.state == "down" for member in self.topology.members):
            self.alive.pop(self.dice.choice(sorted(self.alive)))

    def _return(self) -> None:
        for member in self.topology.members:
            if member.id not in self.alive:
                self.alive[member.id] = incarnation = f"{self.dice.random()}"
                self.left = {key: left for key, left in self.left.items() if key[0] != member.id}
                self.commit(changes.registered(self.topology, replace(member, incarnation=incarnation)))
                self.commit(
                    changes.marked(self.topology, [m.id for m in self.topology.members if m.state == "syncing"], "up")
                )
                return

    def _join(self) -> None:
        if self.born < 7:
            self.born += 1
            self.alive[f"n{self.born}"] = "a"
            self.commit(changes.registered(self.topology, node(self.born)))

    def _drain(self) -> None:
        staying = [m for m in self.topology.members if m.state == "up" and not m.leaving]
        if len(staying) > 3:
            self.commit(changes.drain(self.topology, self.dice.choice(staying).id))

    def _reweight(self) -> None:
        member = self.dice.choice(self.topology.members)
        self.commit(changes.reweight(self.topology, member.id, self.dice.randint(1, 3)))

    def commit(self, document: Topology) -> None:
        assert document is self.topology or document.epoch > self.topology.epoch
        self.topology = document

    def control(self) -> None:
        """One look of whichever controller there is."""
        move = self.topology.move
        reports = {
            id: Report(
                self.known.get(id, 0),
                incarnation,
                move.id if move else "",
                left=self.left.get((id, move.id), 5)
                if move and id in move.target.ids - self.topology.layout.ids
                else 0,
            )
            for id, incarnation in self.alive.items()
            if self.topology.member(id) is not None
        }
        missing = {m.id: 9.0 for m in self.topology.members if m.id not in self.alive}
        before = self.topology
        self.commit(
            decide(before, Sight(missing, reports), now_ms=1, new_id=f"{self.dice.getrandbits(32):08x}", down_after=5.0)
        )
        after = self.topology
        if before.move and after.move and before.move.stage == "stream" and after.move.stage == "switch":
            for id in before.move.target.ids - before.layout.ids:
                assert reports[id].left == 0, "a receiver is read from before it holds all"


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_moves_end_and_what_is_wanted_comes_true(seed: int) -> None:
    life = Life(seed)
    for _ in range(200):
        life.chance(calm=False)
        life.control()
        assert life.topology.layout.nodes
    for _ in range(400):
        life.chance(calm=True)
        life.control()
    assert life.topology.move is None
    assert life.topology.wanted() == life.topology.layout
    assert not [member for member in life.topology.members if member.leaving]
