"""Batches of writes: every record in a frame for each of its owners, and the careful path for what they did not take.

Here lives the splitting of such batches and what is made of the answers. Never here: batches of reads (``batches``), or
fail-over itself (``writing``), which a failed key goes through like any single call, all failed keys side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain, islice
from typing import Final, NamedTuple

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.core.answers import before_rerouting, blame, may_reroute, refusal_of, time_left
from kvcache_client.core.batches import fields_of
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Outcome, Plan, Round, Within
from kvcache_client.core.routing import View
from kvcache_client.core.tallying import Tally
from kvcache_client.core.together import together
from kvcache_client.core.writing import Written, check_reachable, write_carefully
from kvcache_client.placement.partitions import PARTITION_SHIFT
from kvcache_client.protocol.errors import KvCacheError
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Settled", "settle_many", "write_many"]

_FRAME_BYTES: Final = 256 * 1024
"""A PUT_MANY frame is closed once it holds this much; with one more record it still fits every node's limit."""

# Plain ints: packing an IntEnum member takes twice as long.
_PUT_MANY: Final = int(Verb.PUT_MANY)
_OK: Final = int(Status.OK)
_DONE: Final = (_OK, int(Status.MISS))


class Settled(NamedTuple):
    """What became of a batch of writes. Each key that is not among ``others`` was written as its record says."""

    existed: set[bytes]
    """Keys that had a live value before; of ``others`` only they themselves know."""
    others: dict[bytes, Written | KvCacheError]
    """Keys that took the careful way, with what came of it."""


def write_many(
    brain: Brain, records: Mapping[bytes, bytes], acks: Acks | None = None
) -> Plan[dict[bytes, Written | KvCacheError]]:
    """Put every record on all owners of its key; returns what became of each."""
    existed, others = yield from settle_many(brain, records, acks)
    return {
        name: others[name] if name in others else Written(version_of(record), name in existed)
        for name, record in records.items()
    }


def settle_many(brain: Brain, records: Mapping[bytes, bytes], acks: Acks | None = None) -> Plan[Settled]:
    """Put every record on all owners of its key; says nothing of the many that simply went well."""
    if brain.flights:
        for name in records:
            brain.flights.pop(name, None)
    view = brain.view or brain.require_view()
    for name in islice(records, 1):  # the replication factor is the same for all
        check_reachable(brain, name, acks)
    began = brain.clock()
    frames = [] if brain.down else _write_frames(view, records)
    asks = [(node, [0, _PUT_MANY, view.epoch, *_pairs(part, records)]) for node, part in frames]
    outcomes = (yield asks) if asks else []
    yield from _send_again(brain, asks, outcomes, began + brain.config.timeout)
    unsettled: set[bytes] = set() if frames else set(records)
    existed: set[bytes] = set()
    for (_, part), outcome in zip(frames, outcomes, strict=True):
        statuses = fields_of(outcome, len(part))
        if statuses is None:
            unsettled.update(part)
        elif statuses.count(_OK) == len(part):
            existed.update(part)
        else:
            existed.update([name for name, status in zip(part, statuses, strict=True) if status == _OK])
            unsettled.update([name for name, status in zip(part, statuses, strict=True) if status not in _DONE])
    if brain.lagging.marks:
        for name, record in records.items():
            if name not in unsettled:
                brain.lagging.caught_up(name, version_of(record), view.writers_of(name))
    careful = [name for name in records if name in unsettled] if unsettled else []
    if not careful:
        return Settled(existed, {})
    spent = brain.clock() - began
    paid = brain.retry()
    holders = _who_has(frames, outcomes, unsettled)
    tallies = {name: Tally(holders[name], existed=name in existed) for name in careful}
    answers = yield from together(
        write_carefully(brain, name, records[name], tally, acks=acks, spent=spent, paid=paid)
        for name, tally in tallies.items()
    )
    return Settled(existed, dict(zip(careful, answers, strict=True)))


def _send_again(brain: Brain, asks: Round, outcomes: list[Outcome], deadline: float) -> Plan[None]:
    """Send once more what nodes that have too much to do have refused, when they said; notes the newest ``outcomes``."""
    places = [place for place, (node, _) in enumerate(asks) if refusal_of(node, outcomes[place])]
    refused = {asks[place][0]: error for place in places if (error := refusal_of(asks[place][0], outcomes[place]))}
    for node, error in refused.items():
        blame(brain, node, error)
    if not refused or not may_reroute(brain, deadline, refused):
        return
    yield from before_rerouting(brain, deadline, refused)
    places = [place for place in places if not brain.shedding.any_of(asks[place][:1])]
    if places:
        again = yield Within([asks[place] for place in places], time_left(brain, deadline))
        for place, outcome in zip(places, again, strict=True):
            outcomes[place] = outcome


def _who_has(
    frames: list[tuple[str, list[bytes]]], outcomes: list[Outcome], names: set[bytes]
) -> dict[bytes, set[str]]:
    """Return the nodes that have said of each of ``names`` that they hold it."""
    holders: dict[bytes, set[str]] = {name: set() for name in names}
    for (node, part), outcome in zip(frames, outcomes, strict=True):
        for name, status in zip(part, fields_of(outcome, len(part)) or (), strict=False):
            if name in names and status in _DONE:
                holders[name].add(node)
    return holders


def _write_frames(view: View, records: Mapping[bytes, bytes]) -> list[tuple[str, list[bytes]]]:
    """Return (node, its keys) for every frame of the batch, every key in one for each of its writers."""
    by_writers: defaultdict[tuple[str, ...], list[bytes]] = defaultdict(list)
    writers_of, seed = view.writers, view.seed
    for name in records:
        # What ``view.writers_of`` does, without a call that would cost as much.
        by_writers[writers_of[mmh3_x64_128_utupledigest(name, seed)[0] >> PARTITION_SHIFT]].append(name)
    by_node: defaultdict[str, list[bytes]] = defaultdict(list)
    for writers, names in by_writers.items():
        for node in writers:
            by_node[node] += names
    return [(node, part) for node, names in by_node.items() for part in _parts(names, records)]


def _parts(names: list[bytes], records: Mapping[bytes, bytes]) -> list[list[bytes]]:
    """Return the keys of each frame to one node."""
    sizes = [len(name) + len(records[name]) for name in names]
    if len(names) <= KEYS_PER_FRAME and sum(sizes) <= _FRAME_BYTES:
        return [names]
    parts: list[list[bytes]] = []
    room = 0
    for name, size in zip(names, sizes, strict=True):
        if room <= 0 or len(parts[-1]) >= KEYS_PER_FRAME:
            parts.append([])
            room = _FRAME_BYTES
        parts[-1].append(name)
        room -= size
    return parts


def _pairs(names: list[bytes], records: Mapping[bytes, bytes]) -> Iterator[bytes]:
    return chain.from_iterable(zip(names, map(records.__getitem__, names), strict=True))
