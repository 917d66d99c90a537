"""Batches of writes: every record in a frame for each of its owners, and the careful path for what they did not take.

Here lives the splitting of such batches and what is made of the answers. Never here: batches of reads (``batches``), or
fail-over itself (``writing``), which a failed key goes through like any single call, all failed keys side by side.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping
from itertools import chain, islice
from typing import Final, NamedTuple

from mmh3 import mmh3_x64_128_utupledigest

from kvcache_client.core.answers import (
    as_error,
    before_rerouting,
    blame,
    has_room,
    may_reroute,
    refusal_of,
    time_left,
    within,
)
from kvcache_client.core.batches import fields_of
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.effects import Outcome, Plan, Round, Within
from kvcache_client.core.routing import View
from kvcache_client.core.slices import BREATH, not_begun, parts_of, record_slices
from kvcache_client.core.tallying import Tally
from kvcache_client.core.together import together
from kvcache_client.core.writing import Written, check_reachable, write_carefully
from kvcache_client.placement.partitions import PARTITION_SHIFT
from kvcache_client.protocol.errors import InDoubt, KvCacheError
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import version_of
from kvcache_client.protocol.verbs import Status, Verb

__all__ = ["Settled", "settle_many", "write_many"]

_FRAME_BYTES: Final = 256 * 1024
"""A PUT_MANY frame is closed once it holds this much; with one more record it still fits every node's limit."""

_CAREFUL_KEYS: Final = 32
"""Keys that take the careful way at a time: half of what a node holds back for one connection (``stream.delayed_replies``)."""

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
    """Put every record on all owners of its key; says nothing of the many that simply went well.

    What has not been begun when the time of the call is up fails with ``DeadlineExceeded``, and is certainly not written.
    """
    for name in islice(records, 1):  # the replication factor is the same for all
        check_reachable(brain, name, acks)
    deadline = brain.clock() + brain.config.timeout
    if len(records) <= KEYS_PER_FRAME and sum(map(len, records)) + sum(map(len, records.values())) <= _FRAME_BYTES:
        return (yield from _settle(brain, records, acks, deadline, small=True))
    settled = Settled(set(), {})
    done = 0
    for part in record_slices(records):
        if done and not has_room(brain, deadline):
            break
        existed, others = yield from _settle(brain, part, acks, deadline)
        settled.existed.update(existed)
        settled.others.update(others)
        done += len(part)
        yield BREATH
    if done < len(records):
        settled.others.update(dict.fromkeys(islice(records, done, None), not_begun(brain, done, len(records))))
    return settled


def _settle(
    brain: Brain, records: Mapping[bytes, bytes], acks: Acks | None, deadline: float, *, small: bool = False
) -> Plan[Settled]:
    """Settle one slice, until ``deadline``; ``small`` says that all of it fits one frame."""
    if brain.flights:
        for name in records:
            brain.flights.pop(name, None)
    view = brain.view or brain.require_view()
    frames, unsettled = _write_frames(view, records, brain.down, small=small)
    asks = [(node, [0, _PUT_MANY, view.epoch, *_pairs(part, records)]) for node, part in frames]
    seconds = time_left(brain, deadline)
    outcomes = (yield within(brain, asks, deadline)) if asks else []
    yield from _send_again(brain, asks, outcomes, deadline)
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
    if not unsettled:
        return Settled(existed, {})
    for (node, _), outcome in zip(frames, outcomes, strict=True):
        error = as_error(outcome, node, Verb.PUT_MANY)
        if error is not None:
            blame(brain, node, error, seconds)
    tallies = _tallies([name for name in records if name in unsettled], existed, frames, outcomes)
    return Settled(existed, (yield from _settle_carefully(brain, records, tallies, acks, deadline)))


def _settle_carefully(
    brain: Brain, records: Mapping[bytes, bytes], tallies: Mapping[bytes, Tally], acks: Acks | None, deadline: float
) -> Plan[dict[bytes, Written | KvCacheError]]:
    """Take what the frames did not settle the careful way, a few keys at a time; past ``deadline`` that asks nobody any more."""
    paid = brain.retry()
    others: dict[bytes, Written | KvCacheError] = {}
    for part in parts_of(list(tallies), _CAREFUL_KEYS):
        spent = brain.config.timeout - (deadline - brain.clock())
        answers = yield from together(
            write_carefully(brain, name, records[name], tallies[name], acks=acks, spent=spent, paid=paid)
            for name in part
        )
        others.update(zip(part, answers, strict=True))
    return others


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


def _tallies(
    names: list[bytes],
    existed: set[bytes],
    frames: list[tuple[str, list[bytes]]],
    outcomes: list[Outcome],
) -> dict[bytes, Tally]:
    """Return what the frames have told of each of ``names``: who holds it, and who failed altogether."""
    tallies = {name: Tally(existed=name in existed, batched=True) for name in names}
    for (node, part), outcome in zip(frames, outcomes, strict=True):
        statuses = fields_of(outcome, len(part))
        error = as_error(outcome, node, Verb.PUT_MANY) if statuses is None else None
        for name, status in zip(part, statuses or (None,) * len(part), strict=True):
            tally = tallies.get(name)
            if tally is None:
                continue
            if error is not None:
                tally.failures[node] = error
                tally.maybe_applied |= isinstance(error, InDoubt)
            elif status in _DONE:
                tally.acked.add(node)
    return tallies


def _write_frames(
    view: View, records: Mapping[bytes, bytes], down: Container[str], *, small: bool
) -> tuple[list[tuple[str, list[bytes]]], set[bytes]]:
    """Return (node, its keys) for every frame, every key in one for each of its writers, and the keys of which one is down."""
    by_writers: defaultdict[tuple[str, ...], list[bytes]] = defaultdict(list)
    writers_of, seed = view.writers, view.seed
    for name in records:
        # What ``view.writers_of`` does, without a call that would cost as much.
        by_writers[writers_of[mmh3_x64_128_utupledigest(name, seed)[0] >> PARTITION_SHIFT]].append(name)
    by_node: defaultdict[str, list[bytes]] = defaultdict(list)
    short: set[bytes] = set()
    for writers, names in by_writers.items():
        for node in writers:
            if node in down:
                short.update(names)
            else:
                by_node[node] += names
    if small:
        return list(by_node.items()), short
    return [(node, part) for node, names in by_node.items() for part in _parts(names, records)], short


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
