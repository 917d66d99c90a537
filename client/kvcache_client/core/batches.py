"""Many keys in one call: a few frames to each node, and the careful path for whatever they did not settle.

Here lives the joining of what batches of reads come to. Never here: who is asked for which keys (``parts``), batches of writes
(``batch_writes``), or fail-over itself (``reading``), which a failed key goes through like any single call, a few failed keys
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sized
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Generic, TypeVar

from kvcache_client.core.answers import has_room, refusal_of, too_late
from kvcache_client.core.balancing import Balancing, Owners, States
from kvcache_client.core.brain import Brain
from kvcache_client.core.copies import read_at_level
from kvcache_client.core.effects import Outcome, Plan
from kvcache_client.core.lookups import MissReason
from kvcache_client.core.parts import ReadBatch
from kvcache_client.core.reading import how_to_read, read_carefully, why_not_found
from kvcache_client.core.results import BatchResult
from kvcache_client.core.slices import BREATH, LONG, not_begun, parts_of
from kvcache_client.core.space import Space
from kvcache_client.core.together import together
from kvcache_client.protocol.codec import Key, SoftRecord
from kvcache_client.protocol.errors import BatchTooLarge, InvalidKey, KvCacheError, NoAnswer, ReplyFull
from kvcache_client.protocol.limits import KEYS_PER_BATCH, KEYS_PER_FRAME
from kvcache_client.protocol.record import HEADER_BYTES, stale_from, unsoftened
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import Status

__all__ = ["fields_of", "named", "read_many"]

T = TypeVar("T")

_FIRST_ERROR: Final = 16

_LARGE_TOGETHER: Final = 8
"""Keys that take the careful way at a time if their values were too large for a reply of many (8 MiB), or came too slowly."""

_COPIES_TOGETHER: Final = 64
"""The same where several copies of each are read."""


def named(name_of: Callable[[Key], bytes], keys: Iterable[Key]) -> Plan[dict[Key, bytes]]:
    """Return {key as the caller wrote it: key as bytes}. Raises before anything is sent.

    Between many keys others have their turn.
    """
    if isinstance(keys, str | bytes):
        raise InvalidKey(f"a batch takes several keys, this is a single one: {keys!r:.80}")
    try:
        each = iter(keys)
    except TypeError as error:
        raise InvalidKey(f"a batch takes several keys, not {type(keys).__name__}: {shown(keys)}") from error
    if isinstance(keys, Sized):
        if len(keys) <= LONG:
            return {key: name_of(key) for key in each}
        each = iter(tuple(each))  # what others can change in their turn is taken at once
    names: dict[Key, bytes] = {}
    for key in each:
        names[key] = name_of(key)
        if len(names) > KEYS_PER_BATCH:
            raise BatchTooLarge(f"over {KEYS_PER_BATCH} keys in one batch", detail=KEYS_PER_BATCH)
        if not len(names) % LONG:
            yield BREATH
    return names


def read_many(
    brain: Brain,
    space: Space,
    keys: Iterable[Key],
    finish: Callable[[bytes], T],
    consistency: str | None = None,
    balancing: str | Balancing | None = None,
) -> Plan[BatchResult[T]]:
    """Return the live records of ``keys``, each passed through ``finish``.

    What has not been begun when the time of the call is up fails with ``DeadlineExceeded``.
    """
    level, choose = how_to_read(brain, consistency, balancing)
    names = yield from named(space.name_of, keys)
    gathering = _Gathering(brain, space, finish, level, choose, brain.clock() + brain.config.timeout)
    if len(names) <= KEYS_PER_FRAME:
        yield from gathering.read(names)
        return gathering.result()
    done, size = 0, KEYS_PER_FRAME
    items = iter(names.items())
    while done < len(names):
        if done and not has_room(brain, gathering.deadline):
            error = not_begun(brain, done, len(names))
            gathering.failed.update((key, error) for key, _ in items)
            break
        part = dict(islice(items, size))
        full = yield from gathering.read(part)
        yield BREATH
        done += len(part)
        size = max(size // 4, _LARGE_TOGETHER) if full else min(2 * size, KEYS_PER_FRAME)
    return gathering.result()


@dataclass(slots=True)
class _Gathering(Generic[T]):
    """A batch of reads: how it is read, and what has come of it so far."""

    brain: Brain
    space: Space
    finish: Callable[[bytes], T]
    level: str | None
    choose: Callable[[Owners, States], str]
    deadline: float
    found: dict[Key, T] = field(default_factory=dict)
    missing: list[Key] = field(default_factory=list)
    failed: dict[Key, KvCacheError] = field(default_factory=dict)

    def read(self, names: Mapping[Key, bytes]) -> Plan[bool]:
        """Read one slice; returns whether its values were too large for the replies."""
        brain, found, finish = self.brain, self.found, self.finish
        if self.level is not None:
            yield from self._read_carefully(names, list(names), _COPIES_TOGETHER)
            return False
        batch = ReadBatch(brain, brain.view or brain.require_view(), names, self.choose)
        parts, careful = batch.divide()
        large: list[Key] = []
        for (node, part), outcome in (yield from batch.ask(parts, self.deadline)) if parts else ():
            fields = fields_of(outcome, len(part))
            if fields is None:
                self._sort(node, part, outcome, careful, large)
                continue
            for key, field_ in zip(part, fields, strict=True):
                if field_.__class__ is bytes and len(field_) >= HEADER_BYTES:
                    try:
                        found[key] = finish(field_)  # ``_keep`` without the call
                    except (SoftRecord, KvCacheError):
                        self._keep(key, field_)
                elif not self._is_missing(key, field_):
                    (large if field_ == ReplyFull.code else careful).append(key)
        if careful:
            yield from self._read_carefully(names, careful, KEYS_PER_FRAME)
        if large:
            yield from self._read_carefully(names, large, _LARGE_TOGETHER)
        return bool(large)

    def _sort(self, node: str, part: list[Key], outcome: Outcome, careful: list[Key], large: list[Key]) -> None:
        """Say what becomes of a part that was not answered as a whole."""
        down = self.brain.down
        refusal = None if down else refusal_of(node, outcome)
        if refusal is not None:
            self.failed.update(dict.fromkeys(part, refusal))
        else:  # a node that was not silent and still did not answer has much to send
            (large if isinstance(outcome, NoAnswer) and node not in down else careful).extend(part)

    def _is_missing(self, key: Key, field_: Any) -> bool:
        """Note a miss: None or a reason, not an error; unless an owner that is away may have been meant to have the key."""
        is_miss = field_ is None or (field_.__class__ is int and 0 <= field_ < _FIRST_ERROR)
        if not is_miss or self.brain.down:
            return False
        self.missing.append(key)
        self.space.lookups.missed(field_)
        return True

    def _read_carefully(self, names: Mapping[Key, bytes], keys: list[Key], size: int) -> Plan[None]:
        """Read what the frames did not settle, so many keys at a time, while there is time."""
        brain = self.brain
        paid = self.level is None and brain.retry()
        for part in parts_of(keys, size):
            late = too_late(brain, self.deadline)
            if late is not None:
                self.failed.update(dict.fromkeys(part, late))
                continue
            spent = brain.config.timeout - (self.deadline - brain.clock())
            answers = yield from together(
                read_carefully(brain, names[key], spent=spent, paid=paid)
                if self.level is None
                else read_at_level(brain, names[key], self.level, spent)
                for key in part
            )
            for key, answer in zip(part, answers, strict=True):
                if answer is None:
                    self.missing.append(key)
                    self.space.lookups.missed(why_not_found(brain, names[key]))
                elif isinstance(answer, KvCacheError):
                    self.failed[key] = answer
                else:
                    self._keep(key, answer)

    def _keep(self, key: Key, record: bytes) -> None:
        """Put what was found of a key where it belongs: one value that can't be decoded must not cost the others."""
        try:
            self.found[key] = self.finish(record)
        except SoftRecord as soft:
            if self.brain.hlc.now_ms() >= stale_from(soft.record):
                self.missing.append(key)
                self.space.lookups.missed(MissReason.EXPIRED)
            else:
                self._keep(key, unsoftened(soft.record))
        except KvCacheError as error:
            self.failed[key] = error

    def result(self) -> BatchResult[T]:
        """Return all that has come of it."""
        self.space.lookups.hits += len(self.found)
        return BatchResult(self.found, frozenset(self.missing), self.failed)


def fields_of(outcome: Outcome, count: int) -> tuple[Any, ...] | None:
    """Return a batch reply's field for each key, or None if the frame as a whole was not answered."""
    if outcome.__class__ is not tuple or len(outcome) != count + 2 or outcome[1] != Status.OK:
        return None
    return outcome[2:]
