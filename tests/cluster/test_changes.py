"""What each change makes of the document; one that changes nothing returns the very document."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kvcache.cluster import changes
from kvcache_client.placement.topology import MAX_GENERATIONS, Member, Topology
from kvcache_client.protocol.errors import InvalidOption, TopologyError
from kvcache_client.protocol.version import version_at


def node(number: int, incarnation: str = "first", **fields: object) -> Member:
    return Member(f"n{number}", f"127.0.0.1:{7700 + number}", incarnation=incarnation, **fields)  # type: ignore[arg-type]


def cluster(nodes: int = 3, copies: int = 2) -> Topology:
    topology = Topology.found("shop", cluster_id="00c0ffee", seed=1, replication_factor=copies)
    for number in range(1, nodes + 1):
        topology = topology.with_member(node(number))
    return topology.settled()


def state(topology: Topology, id: str) -> str:
    member = topology.member(id)
    return member.shown_state if member else "gone"


def moving(topology: Topology, stage: str = "prepare") -> Topology:
    topology = changes.begin_move(topology, "00aa00aa", 5, "why")
    while topology.move is not None and topology.move.stage != stage:
        topology = changes.advance_move(topology)
    return topology


def joined(nodes: int = 3) -> Topology:
    return changes.registered(cluster(nodes), node(nodes + 1))


# Registration


def test_the_first_of_all_owns_everything_at_once() -> None:
    empty = Topology.found("shop", cluster_id="00c0ffee", seed=1, replication_factor=2)
    first = changes.registered(empty, node(1))
    assert state(first, "n1") == "up"
    assert first.layout.ids == {"n1"}


def test_a_new_one_is_joining_and_owns_nothing() -> None:
    assert state(joined(), "n4") == "joining"
    assert "n4" not in joined().layout.ids


def test_one_that_is_there_already_changes_nothing() -> None:
    topology = cluster()
    assert changes.registered(topology, node(2)) is topology


def test_another_life_of_an_owner_is_syncing_and_keeps_weight_and_wish() -> None:
    topology = changes.drain(changes.reweight(cluster(), "n2", 3), "n2")
    again = changes.registered(topology, node(2, "second", weight=1))
    member = again.member("n2")
    assert member is not None
    assert (member.state, member.weight, member.leaving, member.incarnation) == ("syncing", 3, True, "second")


def test_another_life_of_one_that_never_owned_is_joining_again() -> None:
    down = changes.marked(joined(), ["n4"], "down")
    assert state(changes.registered(down, node(4, "second")), "n4") == "joining"


def test_after_the_switch_a_receiver_that_restarts_is_syncing() -> None:
    topology = moving(joined(), "switch")
    assert state(changes.registered(topology, node(4, "second")), "n4") == "syncing"
    assert state(changes.registered(moving(joined(), "stream"), node(4, "second")), "n4") == "joining"


def test_marking_passes_over_who_is_gone_and_changes_nothing_twice() -> None:
    topology = changes.marked(cluster(), ["n1", "nobody"], "down")
    assert state(topology, "n1") == "down"
    assert changes.marked(topology, ["n1"], "down") is topology


def test_a_document_is_given_back_above_every_epoch_that_was_seen() -> None:
    topology = cluster()
    assert changes.reseeded(topology, 99).epoch == 100
    assert changes.reseeded(topology, 1).epoch == topology.epoch + 1


# Moves


def test_a_move_goes_through_its_stages_to_the_wanted_layout() -> None:
    topology = changes.begin_move(joined(), "00aa00aa", 5, "join n4", rate=7, fence=3)
    assert topology.move is not None
    assert (topology.move.stage, topology.move.rate, topology.move.reason, topology.fence) == (
        "prepare",
        7,
        "join n4",
        3,
    )
    stream = changes.advance_move(topology)
    switch = changes.advance_move(stream)
    done = changes.advance_move(switch)
    assert stream.move is not None
    assert (stream.move.stage, state(stream, "n4")) == ("stream", "joining")
    assert switch.move is not None
    assert (switch.move.stage, state(switch, "n4")) == ("switch", "up")
    assert done.move is None
    assert done.layout == done.wanted() == topology.move.target
    assert [each.epoch for each in (stream, switch, done)] == [topology.epoch + step for step in (1, 2, 3)]


def test_there_is_no_move_where_nothing_is_wanted_nor_a_second_one() -> None:
    topology = cluster()
    assert changes.begin_move(topology, "00aa00aa", 5, "") is topology
    assert changes.advance_move(topology) is topology
    one = moving(joined())
    assert changes.begin_move(one, "00bb00bb", 5, "") is one


def test_who_was_to_leave_is_gone_when_the_move_is_done() -> None:
    topology = changes.advance_move(moving(changes.drain(cluster(), "n2"), "switch"))
    assert state(topology, "n2") == "gone"
    assert topology.layout.ids == {"n1", "n3"}


@pytest.mark.parametrize("stage", ["prepare", "stream"])
def test_cancelling_takes_the_wishes_back_too(stage: str) -> None:
    wished = changes.replicas(changes.reweight(changes.drain(joined(), "n1"), "n2", 9), 3)
    cancelled = changes.cancel_move(moving(wished, stage))
    assert cancelled.move is None
    assert cancelled.wanted() == cancelled.layout == cluster().layout
    assert state(cancelled, "n4") == "gone"
    assert state(cancelled, "n1") == "up"


def test_who_came_after_the_move_began_still_joins_when_it_is_cancelled() -> None:
    late = changes.registered(moving(joined()), node(9))
    cancelled = changes.cancel_move(late)
    assert state(cancelled, "n4") == "gone"
    assert state(cancelled, "n9") == "joining"


def test_after_the_switch_there_is_no_way_back() -> None:
    with pytest.raises(InvalidOption, match="switched"):
        changes.cancel_move(moving(joined(), "switch"))
    with pytest.raises(InvalidOption, match="no move"):
        changes.cancel_move(cluster())


def test_a_running_move_can_be_throttled() -> None:
    slow = changes.throttle(moving(joined()), 500)
    assert slow.move is not None
    assert slow.move.rate == 500
    with pytest.raises(InvalidOption, match="no move"):
        changes.throttle(cluster(), 5)
    with pytest.raises(InvalidOption, match="rate=-1"):
        changes.throttle(moving(joined()), -1)


# Wishes


@pytest.mark.parametrize("change", [changes.drain, changes.remove, changes.forget])
def test_an_unknown_node_is_refused_and_the_known_ones_are_named(change: object) -> None:
    with pytest.raises(InvalidOption, match=r"'n9' is no member .* n1, n2, n3"):
        change(cluster(), "n9")  # type: ignore[operator]
    with pytest.raises(InvalidOption, match="'n9'"):
        changes.reweight(cluster(), "n9", 2)


def test_draining_twice_changes_nothing_more() -> None:
    once = changes.drain(cluster(), "n2", fence=4)
    assert (state(once, "n2"), once.fence) == ("leaving", 4)
    assert changes.drain(once, "n2") is once


def test_one_that_is_down_can_be_removed_and_not_drained() -> None:
    topology = changes.marked(cluster(), ["n2"], "down")
    with pytest.raises(InvalidOption, match="remove it instead"):
        changes.drain(topology, "n2")
    assert changes.remove(topology, "n2").wanted().ids == {"n1", "n3"}


def test_the_last_owner_stays() -> None:
    with pytest.raises(InvalidOption, match="last owner"):
        changes.drain(cluster(1), "n1")
    with pytest.raises(InvalidOption, match="last owner"):
        changes.remove(cluster(1), "n1", force=True)


def test_removing_the_only_copy_needs_force_and_says_what_would_be_lost() -> None:
    single = changes.marked(cluster(3, copies=1), ["n2"], "down")
    with pytest.raises(InvalidOption, match="only it holds"):
        changes.remove(single, "n2")
    assert changes.remove(single, "n2", force=True).wanted().ids == {"n1", "n3"}
    both = changes.marked(cluster(), ["n1", "n2"], "down")
    with pytest.raises(InvalidOption, match="shares with n1"):
        changes.remove(both, "n2")


def test_one_that_never_owned_is_removed_at_once() -> None:
    assert state(changes.remove(joined(), "n4"), "n4") == "gone"


def test_weights_and_copies_are_checked() -> None:
    topology = cluster()
    assert changes.reweight(topology, "n1", 1) is topology
    assert changes.replicas(topology, 2) is topology
    assert changes.reweight(topology, "n1", 4).wanted() != topology.layout
    assert changes.replicas(topology, 3).wanted().replication_factor == 3
    for weight in (0, 1001, True, 1.5):
        with pytest.raises(InvalidOption, match="weight="):
            changes.reweight(topology, "n1", weight)  # type: ignore[arg-type]
    for count in (0, 9):
        with pytest.raises(InvalidOption, match="replicas="):
            changes.replicas(topology, count)


# Generations


def test_a_purge_is_kept_as_long_as_something_older_may_come_back() -> None:
    topology = changes.purge(cluster(), "shop:", 100, 0)
    topology = changes.purge(topology, "user:", 200, 0)
    assert topology.generations == (("shop:", 100), ("user:", 200))
    assert changes.purge(topology, "x:", 300, 150).generations == (("user:", 200), ("x:", 300))


def test_a_flush_covers_every_purge_before_it() -> None:
    topology = changes.purge(changes.purge(cluster(), "shop:", 100, 0), "", 200, 0)
    assert topology.generations == (("", 200),)
    assert changes.purge(topology, "shop:", 300, 0).generations == (("", 200), ("shop:", 300))


def test_a_purge_reaches_further_than_those_before_it_whatever_the_clock_says() -> None:
    later = version_at(1000)
    for first, second in (("", "shop:"), ("shop:", ""), ("", "")):
        topology = changes.purge(changes.purge(cluster(), first, later, 0), second, later - 5, 0)
        assert dict(topology.generations)[second] == version_at(1001)
    beside = changes.purge(changes.purge(cluster(), "a", later, 0), "b", 7, 0)
    assert dict(beside.generations) == {"a": later, "b": 7}


def test_too_many_purges_and_too_long_prefixes_are_refused() -> None:
    full = replace(cluster(), generations=tuple((f"{number:03}", 1) for number in range(MAX_GENERATIONS)))
    with pytest.raises(InvalidOption, match=str(MAX_GENERATIONS)):
        changes.purge(full, "one more", 2, 0)
    assert changes.purge(full, "", 2, 0).generations == (("", 2),)
    with pytest.raises(InvalidOption, match="1024"):
        changes.purge(cluster(), "x" * 1025, 2, 0)
    with pytest.raises(InvalidOption, match="Unicode"):
        changes.purge(cluster(), "\ud800", 2, 0)
    with pytest.raises(TopologyError, match="Unicode"):
        replace(cluster(), generations=(("\ud800", 2),))
