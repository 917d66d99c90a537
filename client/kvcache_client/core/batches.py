"""Many keys in one call: a few frames to each node, and the careful path for whatever they did not settle.

Here lives the splitting of batches and the joining of their outcomes. Never here: fail-over itself (``reading``,
``writing``), which a failed key goes through like any single call, all failed keys side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice, repeat
from typing import Any, Final, TypeAlias, TypeVar

from kvcache_client.core.balancing import Balancing, Owners, States
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.copies import read_at_level
from kvcache_client.core.effects import Outcome, Plan
from kvcache_client.core.lookups import MissReason
from kvcache_client.core.reading import how_to_read, read_carefully, why_not_found
from kvcache_client.core.results import BatchResult
from kvcache_client.core.routing import View
from kvcache_client.core.space import Space
from kvcache_client.core.together import together
from kvcache_client.core.trust import trusted_owners
from kvcache_client.core.writing import Written, check_reachable, write_carefully
from kvcache_client.protocol.codec import Key, SoftRecord
from kvcache_client.protocol.errors import BatchTooLarge, InvalidKey, KvCacheError
from kvcache_client.protocol.limits import KEYS_PER_BATCH, KEYS_PER_FRAME
from kvcache_client.protocol.record import HEADER_BYTES, stale_from, unsoftened, version_of
from kvcache_client.protocol.verbs import Request, Status, Verb

__all__ = ["names_of", "read_many", "write_many"]

T = TypeVar("T")

_Gathered: TypeAlias = tuple[dict[Key, T], list[Key], dict[Key, KvCacheError]]
"""What was found, what is missing, what failed."""

_FRAME_BYTES: Final = 256 * 1024
"""A PUT_MANY frame is closed once it holds this much; with one more record it still fits every node's limit."""

_FIRST_ERROR: Final = 16
_OK: Final = int(Status.OK)
_MISS: Final = int(Status.MISS)


def names_of(name_of: Callable[[Key], bytes], keys: Iterable[Key]) -> dict[Key, bytes]:
    """Return {key as the caller wrote it: key as bytes}. Raises before anything is sent."""
    if isinstance(keys, str | bytes):
        raise InvalidKey(f"a batch takes several keys, this is a single one: {keys!r:.80}")
    names: dict[Key, bytes] = {}
    for key in keys:
        names[key] = name_of(key)
        if len(names) > KEYS_PER_BATCH:
            raise BatchTooLarge(f"over {KEYS_PER_BATCH} keys in one batch", detail=KEYS_PER_BATCH)
    return names


def read_many(
    brain: Brain,
    space: Space,
    keys: Iterable[Key],
    finish: Callable[[bytes], T],
    consistency: str | None = None,
    balancing: str | Balancing | None = None,
) -> Plan[BatchResult[T]]:
    """Return the live records of ``keys``, each passed through ``finish``."""
    level, choose = how_to_read(brain, consistency, balancing)
    names = names_of(space.name_of, keys)
    view = brain.view or brain.require_view()
    began = brain.clock()
    gathered: _Gathered[T] = ({}, [], {})
    found, missing, failed = gathered
    frames, careful = _read_frames(brain, view, names, choose) if level is None else ([], list(names))
    outcomes = (
        (yield [(node, [0, Verb.GET_MANY, *(names[key] for key in part)]) for node, part in frames]) if frames else []
    )
    for (_, part), outcome in zip(frames, outcomes, strict=True):
        fields = _fields(outcome, len(part))
        if fields is None:
            careful += part
            continue
        for key, field in zip(part, fields, strict=True):
            if field.__class__ is bytes and len(field) >= HEADER_BYTES:
                _keep(brain, space, finish, gathered, key, field)
            elif _is_miss(field) and not brain.down:  # else the owner that is away may have been meant to have it
                missing.append(key)
                space.lookups.missed(field)
            else:
                careful.append(key)
    if careful:
        spent = brain.clock() - began
        paid = brain.retry()
        answers = yield from together(
            read_carefully(brain, names[key], spent=spent, paid=paid)
            if level is None
            else read_at_level(brain, names[key], level)
            for key in careful
        )
        for key, answer in zip(careful, answers, strict=True):
            if answer is None:
                missing.append(key)
                space.lookups.missed(why_not_found(brain, names[key]))
            elif isinstance(answer, KvCacheError):
                failed[key] = answer
            else:
                _keep(brain, space, finish, gathered, key, answer)
    space.lookups.hits += len(found)
    return BatchResult(found, frozenset(missing), failed)


def _is_miss(field: Any) -> bool:
    """Say whether a field of a GET_MANY reply is a miss; a number from 16 up is an error, below that a reason."""
    return field is None or (field.__class__ is int and 0 <= field < _FIRST_ERROR)


def _keep(
    brain: Brain, space: Space, finish: Callable[[bytes], T], gathered: _Gathered[T], key: Key, record: bytes
) -> None:
    """Put what was found of a key where it belongs: one value that can't be decoded must not cost the others."""
    found, missing, failed = gathered
    try:
        found[key] = finish(record)
    except SoftRecord as soft:
        if brain.hlc.now_ms() >= stale_from(soft.record):
            missing.append(key)
            space.lookups.missed(MissReason.EXPIRED)
        else:
            _keep(brain, space, finish, gathered, key, unsoftened(soft.record))
    except KvCacheError as error:
        failed[key] = error


def _fields(outcome: Outcome, count: int) -> tuple[Any, ...] | None:
    """Return a batch reply's field for each key, or None if the frame as a whole was not answered."""
    if outcome.__class__ is not tuple or len(outcome) != count + 2 or outcome[1] != Status.OK:
        return None
    return outcome[2:]


def _read_frames(
    brain: Brain, view: View, names: Mapping[Key, bytes], choose: Callable[[Owners, States], str]
) -> tuple[list[tuple[str, list[Key]]], list[Key]]:
    """Return (node, its keys) for every frame of the batch, and the keys that none of the owners can be asked for."""
    by_node: dict[str, list[Key]] = {}
    careful: list[Key] = []
    wary = brain.avoided or brain.behind
    for key, name in names.items():
        owners = trusted_owners(brain, view, view.partition(name), name) if wary else view.owners_of(name)
        if owners and not (wary and name in brain.behind):  # those are healed on the careful way
            by_node.setdefault(choose(owners, brain.nodes), []).append(key)
        else:
            careful.append(key)
    frames = [
        (node, keys[start : start + KEYS_PER_FRAME])
        for node, keys in by_node.items()
        for start in range(0, len(keys), KEYS_PER_FRAME)
    ]
    return frames, careful


def write_many(
    brain: Brain, records: Mapping[bytes, bytes], acks: Acks | None = None
) -> Plan[dict[bytes, Written | KvCacheError]]:
    """Put every record on all owners of its key; returns what became of each."""
    if brain.flights:
        for name in records:
            brain.flights.pop(name, None)
    view = brain.view or brain.require_view()
    for name in islice(records, 1):  # the replication factor is the same for all
        check_reachable(brain, name, acks)
    began = brain.clock()
    writers = {name: view.writers_of(name) for name in records}  # each key is hashed once
    frames = [] if brain.down else _write_frames(view.epoch, records, writers)
    outcomes = (yield [(frame.node, frame.request) for frame in frames]) if frames else []
    unsettled: set[bytes] = set() if frames else set(records)
    existed: set[bytes] = set()
    for frame, outcome in zip(frames, outcomes, strict=True):
        statuses = _fields(outcome, len(frame.names)) or repeat(None, len(frame.names))
        for name, status in zip(frame.names, statuses, strict=True):
            if status == _OK:
                existed.add(name)
            elif status != _MISS:
                unsettled.add(name)
    results: dict[bytes, Written | KvCacheError] = {}
    for name, record in records.items():
        if name not in unsettled:
            results[name] = written = Written(version_of(record), name in existed)
            if brain.lagging.marks:
                brain.lagging.caught_up(name, written.version, writers[name])
    careful = [name for name in records if name in unsettled]
    if careful:
        spent = brain.clock() - began
        paid = brain.retry()
        answers = yield from together(
            write_carefully(brain, name, records[name], acks=acks, spent=spent, paid=paid) for name in careful
        )
        results.update(zip(careful, answers, strict=True))
    return results


@dataclass(slots=True)
class _Frame:
    """A PUT_MANY request to one node, its keys, and the bytes that it still has room for."""

    node: str
    request: Request
    names: list[bytes]
    room: int = _FRAME_BYTES


def _write_frames(epoch: int, records: Mapping[bytes, bytes], writers: Mapping[bytes, tuple[str, ...]]) -> list[_Frame]:
    """Return the frames of the batch, every record in one for each of its writers."""
    frames: list[_Frame] = []
    open_frames: dict[str, _Frame] = {}
    for name, record in records.items():
        size = len(name) + len(record)
        for node in writers[name]:
            frame = open_frames.get(node)
            if frame is None or frame.room <= 0 or len(frame.names) >= KEYS_PER_FRAME:
                open_frames[node] = frame = _Frame(node, [0, Verb.PUT_MANY, epoch], [])
                frames.append(frame)
            frame.request += (name, record)
            frame.names.append(name)
            frame.room -= size
    return frames
