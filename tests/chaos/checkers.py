"""Checkers: pure functions that find broken promises in a history and in what every replica holds at its end.

Here lives what each promise means, operation by operation. Never here: clusters, clocks, or which promises a run is held to.

Every checker takes (history, final state) and returns violations; none of them guesses: where operations ran side by side or
an outcome is in doubt, both orders are right, and what could explain a finding acquits it. Versions decide the order of writes
wherever they are known, because the nodes decide by nothing else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from chaos.history import ERASERS, History, Operation, Outcome, Verb, read_value
from kvcache_client.protocol.codec import decode_record
from kvcache_client.protocol.record import describe, is_tombstone, version_of

__all__ = ["CHECKERS", "FinalState", "Violation", "check", "counted"]


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken promise: which, at which key, and the operations that prove it."""

    checker: str
    key: str
    text: str
    operations: tuple[Operation, ...] = ()

    def __str__(self) -> str:
        return "\n    ".join([f"{self.checker} {self.key!r}: {self.text}", *map(str, self.operations)])


@dataclass(frozen=True)
class FinalState:
    """What every node holds when all is quiet: ``held[node][key]`` is a record, a tombstone, or None for nothing."""

    held: Mapping[str, Mapping[str, bytes | None]] = field(default_factory=dict)
    owners: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The nodes that should hold a key; where a key is not listed, all of ``held`` should."""
    read_at: float = float("inf")
    """When they were asked."""

    def copies(self, key: str) -> dict[str, bytes]:
        """Return the record, or tombstone, of each node that has one."""
        held = {node: records.get(key) for node, records in self.held.items()}
        return {node: record for node, record in held.items() if record is not None}

    def owned(self, key: str) -> dict[str, bytes | None]:
        """Return what each living owner of the key holds."""
        owners = self.owners.get(key, tuple(self.held))
        return {node: self.held[node].get(key) for node in owners if node in self.held}

    def keys(self) -> set[str]:
        """Return all keys that any node holds."""
        return {key for records in self.held.values() for key in records}


def _erases(eraser: Operation, version: int | None, write: Operation | None) -> bool | None:
    """Say whether an eraser that was applied hides a write: yes, no, or None if either order is right."""
    if eraser.version is not None and version is not None:
        return eraser.version >= version
    if write is None:
        return None
    if write.returned <= eraser.invoked:
        return True
    return False if eraser.returned <= write.invoked else None


class _Key:
    """What a history says of one key."""

    def __init__(self, key: str, operations: list[Operation], flushes: list[Operation]) -> None:
        self.key = key
        self.sets = [it for it in operations if it.verb is Verb.SET]
        self.reads = [it for it in operations if it.verb is Verb.GET]
        own = [it for it in operations if it.verb in ERASERS]
        self.erasers = [it for it in [*own, *(it for it in flushes if key.startswith(it.key))] if it.possible]
        self._writers = {it.value: it for it in self.sets}

    def writer(self, value: object) -> Operation | None:
        """Return the write of a value."""
        return self._writers.get(value) if isinstance(value, str) else None

    def acknowledged(self, before: float = float("inf")) -> list[Operation]:
        """Return the writes of values that were acknowledged before a moment and carry their version."""
        return [it for it in self.sets if it.acknowledged and it.version is not None and it.returned <= before]

    def may_be_gone(self, write: Operation, by: float) -> bool:
        """Say whether something explains that a write can't be seen at ``by``: an eraser, or its time to live."""
        if write.ttl is not None and write.invoked + write.ttl <= by:
            return True
        return any(it.invoked <= by and _erases(it, write.version, write) is not False for it in self.erasers)


def _keys(history: History) -> Iterator[_Key]:
    flushes = [it for it in history if it.verb is Verb.FLUSH]
    for key, operations in history.by_key().items():
        if not any(it.verb is Verb.INCR for it in operations):
            yield _Key(key, operations, flushes)


def _newest(operations: Iterable[Operation]) -> Operation | None:
    return max(operations, key=lambda it: it.version or 0, default=None)


def lost(history: History, final: FinalState) -> Iterator[Violation]:
    """Find acknowledged writes that are nowhere, though nothing later explains it, or that could never be seen."""
    for it in _keys(history):
        yield from _written_below(it)
        newest = _newest(it.acknowledged(final.read_at))
        if newest is None or not final.held or it.may_be_gone(newest, final.read_at):
            continue
        copies = final.copies(it.key)
        if max(map(version_of, copies.values()), default=0) < (newest.version or 0):
            yield Violation("lost", it.key, f"acknowledged, but all that is left is {_shown(copies)}", (newest,))


def _written_below(it: _Key) -> Iterator[Violation]:
    """Find writes that got a version below one that was acknowledged before they began: no reader ever sees those."""
    newest: Operation | None = None
    ended = sorted(it.acknowledged(), key=lambda write: write.returned)
    position = 0
    for write in sorted(ended, key=lambda write: write.invoked):
        while position < len(ended) and ended[position].returned <= write.invoked:
            newest = _newest([ended[position], *([newest] if newest else [])])
            position += 1
        if newest is not None and (write.version or 0) <= (newest.version or 0):
            text = "acknowledged under a version below one that was acknowledged before it began"
            yield Violation("lost", it.key, text, (newest, write))


def resurrected(history: History, final: FinalState) -> Iterator[Violation]:
    """Find values that were read, or are held by an owner, after a delete or flush above them was acknowledged."""
    for it in _keys(history):
        erasers = [eraser for eraser in it.erasers if eraser.acknowledged]
        for read in it.reads:
            if read.outcome is not Outcome.HIT:
                continue
            for eraser in erasers:
                if eraser.returned <= read.invoked and _erases(eraser, read.version, it.writer(read.value)):
                    yield Violation("resurrected", it.key, "read after it was deleted", (eraser, read))
                    break
        for node, record in final.owned(it.key).items():
            if record is None or is_tombstone(record):
                continue
            for eraser in erasers:
                if _erases(eraser, version_of(record), it.writer(decode_record(record))):
                    yield Violation("resurrected", it.key, f"{node} holds {describe(record)}", (eraser,))
                    break


def stale(history: History, final: FinalState) -> Iterator[Violation]:
    """Find reads that saw an older value than one that was acknowledged before they began."""
    for it in _keys(history):
        for read in it.reads:
            if read.outcome is not Outcome.HIT or read.version is None:
                continue
            newest = _newest(it.acknowledged(read.invoked))
            if newest is not None and (newest.version or 0) > read.version:
                yield Violation("stale", it.key, "read an older value than was acknowledged", (newest, read))


def false_miss(history: History, final: FinalState) -> Iterator[Violation]:
    """Find misses on keys whose value was acknowledged before the read began and that nothing erased."""
    for it in _keys(history):
        for read in it.reads:
            newest = _newest(it.acknowledged(read.invoked)) if read.outcome is Outcome.MISS else None
            if newest is not None and not it.may_be_gone(newest, read.returned):
                yield Violation("false_miss", it.key, "missed a value that was acknowledged", (newest, read))


def phantom(history: History, final: FinalState) -> Iterator[Violation]:
    """Find values that nobody wrote to that key, that were damaged, or whose write was said not to be applied."""
    for it in _keys(history):
        for read in it.reads:
            if read.outcome is Outcome.HIT and (why := _impossible(it, read.value, read.returned)):
                yield Violation("phantom", it.key, f"read {why}", (read,))
        for node, record in final.copies(it.key).items():
            if not is_tombstone(record) and (why := _impossible(it, decode_record(record), final.read_at)):
                yield Violation("phantom", it.key, f"{node} holds {why}")


def _impossible(it: _Key, value: object, seen_at: float) -> str:
    """Say why a value can't be there, nothing if it can."""
    if read_value(value) != it.key:
        return f"what was never written to it, or was damaged: {value!r:.120}"
    write = it.writer(value)
    if write is None:
        return f"what nobody wrote: {value!r:.120}"
    if write.invoked > seen_at:
        return f"what was written only later: {write}"
    return f"what was said not to be applied: {write}" if not write.possible else ""


def diverged(history: History, final: FinalState) -> Iterator[Violation]:
    """Find keys of which owners hold different versions. A tombstone and nothing at all are the same: a miss."""
    keys = final.keys() | set(final.owners)
    for key in sorted(keys):
        owned = final.owned(key)
        versions = {None if record is None or is_tombstone(record) else version_of(record) for record in owned.values()}
        if len(versions) > 1:
            yield Violation("diverged", key, _shown(owned))


def counter_bounds(history: History, final: FinalState) -> Iterator[Violation]:
    """Find counters that do not hold what was acknowledged, plus at most what is in doubt. Amounts are positive."""
    for key, operations in history.by_key().items():
        steps = [it for it in operations if it.verb is Verb.INCR]
        copies = final.copies(key)
        if not steps or not final.held or any(it.verb in ERASERS for it in operations):
            continue
        newest = max(copies.values(), default=None)
        held = decode_record(newest) if newest is not None and not is_tombstone(newest) else 0
        least = sum(it.value for it in steps if it.acknowledged)
        most = sum(it.value for it in steps if it.possible)
        if not isinstance(held, int) or not least <= held <= most:
            yield Violation("counter_bounds", key, f"holds {held!r}, acknowledged {least}, at most {most}")


def fence_effects(history: History, final: FinalState) -> Iterator[Violation]:
    """Find effects of a holder whose lock had gone to another: an older fence acknowledged, or in place, after a newer."""
    for it in _keys(history):
        fenced = [write for write in it.sets if write.fence is not None]
        for write in fenced:
            newer = [
                other
                for other in fenced
                if other.acknowledged and (other.fence or 0) > (write.fence or 0) and other.returned <= write.invoked
            ]
            if write.acknowledged and newer:
                yield Violation("fence_effects", it.key, "a stale fence was let through", (newer[0], write))
        highest = max((write.fence or 0 for write in fenced if write.acknowledged), default=0)
        for node, record in final.copies(it.key).items():
            held = None if is_tombstone(record) else it.writer(decode_record(record))
            if held is not None and held.fence is not None and held.fence < highest:
                yield Violation("fence_effects", it.key, f"{node} holds a write below fence {highest}", (held,))


def _shown(copies: Mapping[str, bytes | None]) -> str:
    shown = (f"{node}: {describe(record) if record is not None else 'nothing'}" for node, record in copies.items())
    return ", ".join(shown) or "nothing"


CHECKERS: Final[Mapping[str, Callable[[History, FinalState], Iterator[Violation]]]] = {
    checker.__name__: checker
    for checker in (lost, resurrected, stale, false_miss, phantom, diverged, counter_bounds, fence_effects)
}
"""Every promise that is judged, by name."""


def check(history: History, final: FinalState, *names: str) -> list[Violation]:
    """Return what the checkers of these names (none: all) find."""
    return [found for name in names or CHECKERS for found in CHECKERS[name](history, final)]


def counted(violations: Iterable[Violation]) -> dict[str, int]:
    """Return how many violations each checker found, zeros included."""
    counts: defaultdict[str, int] = defaultdict(int, dict.fromkeys(CHECKERS, 0))
    for violation in violations:
        counts[violation.checker] += 1
    return dict(counts)
