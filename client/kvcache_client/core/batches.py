"""Many keys in one call: a few frames to each node, and the careful path for whatever they did not settle.

Here lives the joining of what batches of reads come to. Never here: who is asked for which keys (``parts``), batches of writes
(``batch_writes``), or fail-over itself (``reading``), which a failed key goes through like any single call, all failed keys
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from typing import Any, Final, TypeAlias, TypeVar

from kvcache_client.core.answers import refusal_of
from kvcache_client.core.balancing import Balancing
from kvcache_client.core.brain import Brain
from kvcache_client.core.copies import read_at_level
from kvcache_client.core.effects import Outcome, Plan
from kvcache_client.core.lookups import MissReason
from kvcache_client.core.parts import ReadBatch
from kvcache_client.core.reading import how_to_read, read_carefully, why_not_found
from kvcache_client.core.results import BatchResult
from kvcache_client.core.space import Space
from kvcache_client.core.together import together
from kvcache_client.protocol.codec import Key, SoftRecord
from kvcache_client.protocol.errors import BatchTooLarge, InvalidKey, KvCacheError
from kvcache_client.protocol.limits import KEYS_PER_BATCH
from kvcache_client.protocol.record import HEADER_BYTES, stale_from, unsoftened
from kvcache_client.protocol.verbs import Status

__all__ = ["fields_of", "names_of", "read_many"]

T = TypeVar("T")

_Gathered: TypeAlias = tuple[dict[Key, T], list[Key], dict[Key, KvCacheError]]
"""What was found, what is missing, what failed."""

_FIRST_ERROR: Final = 16


def names_of(name_of: Callable[[Key], bytes], keys: Iterable[Key]) -> dict[Key, bytes]:
    """Return {key as the caller wrote it: key as bytes}. Raises before anything is sent."""
    if isinstance(keys, str | bytes):
        raise InvalidKey(f"a batch takes several keys, this is a single one: {keys!r:.80}")
    if isinstance(keys, Sized) and len(keys) <= KEYS_PER_BATCH:
        return {key: name_of(key) for key in keys}
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
    batch = ReadBatch(brain, view, names, choose)
    parts, careful = batch.divide() if level is None else ([], list(names))
    answered = (yield from batch.ask(parts, began + brain.config.timeout)) if parts else []
    for (node, part), outcome in answered:
        fields = fields_of(outcome, len(part))
        if fields is None:
            refusal = None if brain.down else refusal_of(node, outcome)
            if refusal is None:
                careful += part
            else:
                failed.update(dict.fromkeys(part, refusal))
            continue
        for key, field in zip(part, fields, strict=True):
            if field.__class__ is bytes and len(field) >= HEADER_BYTES:
                try:
                    found[key] = finish(field)  # ``_keep`` without the call
                except (SoftRecord, KvCacheError):
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


def fields_of(outcome: Outcome, count: int) -> tuple[Any, ...] | None:
    """Return a batch reply's field for each key, or None if the frame as a whole was not answered."""
    if outcome.__class__ is not tuple or len(outcome) != count + 2 or outcome[1] != Status.OK:
        return None
    return outcome[2:]
