"""What two documents differ in, as events."""

from dataclasses import replace

import pytest

from kvcache.event_table import EVENTS
from kvcache.topology_events import what_happened
from kvcache_client.placement.layout import Move
from kvcache_client.placement.topology import Member, Topology

A, B = Member("a", "127.0.0.1:1"), Member("b", "127.0.0.1:2")
BEFORE = (
    Topology.found("c", cluster_id="00c0ffee", seed=1, replication_factor=2).with_member(A).with_member(B).settled()
)
MOVE = Move(id="0000000a", target=BEFORE.layout, stage="prepare", reason="c joins")


def after(**changes):
    return replace(BEFORE, epoch=BEFORE.epoch + 1, **changes)


@pytest.mark.parametrize(
    ("before", "now", "events"),
    [
        (BEFORE, after(), []),
        (BEFORE, BEFORE.with_member(Member("c", "127.0.0.1:3", state="joining")), ["member_joined"]),
        (BEFORE, BEFORE.with_member(Member("c", "127.0.0.1:3")), ["member_joined", "member_up"]),
        (BEFORE, BEFORE.with_member(replace(B, state="down")), ["member_down"]),
        (BEFORE, BEFORE.with_member(replace(B, state="syncing")), ["member_syncing"]),
        (BEFORE, BEFORE.with_member(replace(B, leaving=True)), ["member_leaving"]),
        (BEFORE.with_member(replace(B, state="down")), BEFORE, ["member_up"]),
        (BEFORE.with_member(Member("c", "127.0.0.1:3")), BEFORE, ["member_left"]),
        (BEFORE, after(replication_factor=3), ["replicas_changed"]),
        (BEFORE, after(generations=(("", 5), ("a:", 6))), ["purged", "purged"]),
        (BEFORE, after(move=MOVE), ["move_started"]),
        (after(move=MOVE), after(move=replace(MOVE, stage="stream")), ["move_stage"]),
        (after(move=MOVE), BEFORE, ["move_finished"]),
        (after(move=MOVE), after(move=replace(MOVE, id="0000000b")), ["move_finished", "move_started"]),
    ],
)
def test_the_difference_is_told(before, now, events):
    happened = list(what_happened(before, now))
    assert [name for name, _ in happened] == events
    for name, fields in happened:
        assert EVENTS[name].text.format(**fields)
        assert fields["epoch"] == now.epoch
