"""The verbs: one plan each, written once for both clients.

Here lives what every public call does, from the caller's objects to requests and back. Never here: how nodes are reached
(the bodies), fail-over (``reading``, ``writing``, ``deciding``). The path of one ``await cache.get("user:1")``::

    AsyncClient.get -> plans.get -> Space.name_of -> View.partition -> yield (node, [0, GET, key])
        -> AsyncLink.ask -> Link.enqueue ... one write per node and loop turn ... node ...
        -> Link.receive -> Future -> plans.get goes on -> Space.decode -> the caller's value

Every plan takes the brain first and the space second: what turns the caller's keys and values into bytes and back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from kvcache_client.core.balancing import Balancing
from kvcache_client.core.batch_writes import settle_many
from kvcache_client.core.batches import named, read_many
from kvcache_client.core.brain import Brain
from kvcache_client.core.consistency import Acks
from kvcache_client.core.deciding import increment, swap, touch
from kvcache_client.core.durations import Ttl, seconds_in
from kvcache_client.core.effects import Plan
from kvcache_client.core.failing_open import batch_fails_open, forgiving_write, write_fails_open
from kvcache_client.core.reading import fetch, read, read_as
from kvcache_client.core.results import BatchResult, Entry
from kvcache_client.core.slices import BREATH, LONG, stretches
from kvcache_client.core.space import Space
from kvcache_client.core.writing import Written, write
from kvcache_client.protocol.codec import INT64_MAX, INT64_MIN, Key, SoftRecord, Value
from kvcache_client.protocol.errors import (
    InvalidOption,
    KeyNotFound,
    KvCacheError,
    Superseded,
    UnsupportedValue,
    ValueTooLarge,
)
from kvcache_client.protocol.record import (
    NEVER,
    TOMBSTONE_MS,
    expiry_of,
    fenced,
    is_soft,
    make_record,
    payload_of,
    tombstone,
    version_of,
)
from kvcache_client.protocol.shown import shown
from kvcache_client.protocol.verbs import ABSENT, PRESENT

__all__ = [
    "Ttl",
    "add",
    "cas",
    "decr",
    "delete",
    "delete_many",
    "exists",
    "expiry_in",
    "fetch",
    "get",
    "get_entry",
    "get_many",
    "incr",
    "replace",
    "set_many",
    "set_value",
    "store",
    "store_if",
    "touch_key",
]

D = TypeVar("D")


_LARGE: Final = 64 * 1024
"""After a value of more bytes in a batch others have their turn."""


def expiry_in(brain: Brain, ttl: Ttl) -> int:
    """Return the expiry, in ms since 1970 of the cluster's time, of something that lives for ``ttl``."""
    if ttl is None:
        return NEVER
    return brain.hlc.now_ms() + max(1, math.ceil(seconds_in("ttl", ttl) * 1000))


def _fitting(brain: Brain, payload: bytes, key: Key) -> bytes:
    limit = brain.config.value_limit
    if len(payload) > limit:
        raise ValueTooLarge(f"the value of {key!r:.80} has {len(payload)} bytes, the limit is {limit}", detail=limit)
    return payload


def get(
    brain: Brain,
    space: Space,
    key: Key,
    default: D,
    consistency: str | None = None,
    balancing: str | Balancing | None = None,
) -> Plan[Value | D]:
    """Return the value, or ``default``."""
    if consistency is None and balancing is None:
        return read(brain, space, key, space.decode, default)
    return read_as(brain, space, key, space.decode, default, consistency, balancing)


def get_entry(
    brain: Brain,
    space: Space,
    key: Key,
    consistency: str | None = None,
    balancing: str | Balancing | None = None,
) -> Plan[Entry | None]:
    """Return value, version and time left, or None."""

    def finish(record: bytes) -> Entry:
        expiry = expiry_of(record)
        ttl = None if expiry == NEVER else max(0.0, (expiry - brain.hlc.now_ms()) / 1000)
        return Entry(space.decode(record), version_of(record), ttl)

    return read_as(brain, space, key, finish, None, consistency, balancing)


def exists(brain: Brain, space: Space, key: Key) -> Plan[bool]:
    """Say whether the key has a live value."""
    return read(brain, space, key, _is_there, False)


def _is_there(record: bytes) -> bool:
    if is_soft(record):
        raise SoftRecord(record)
    return True


def store(
    brain: Brain, space: Space, key: Key, flags: int, payload: bytes, expiry_ms: int, acks: Acks | None = None
) -> Plan[int]:
    """Write a payload that is already encoded; returns its version."""
    name = space.name_of(key)
    record = make_record(brain.hlc.stamp(), expiry_ms, flags, _fitting(brain, payload, key))
    written = yield from write(brain, name, record, acks)
    return written.version


def set_value(
    brain: Brain,
    space: Space,
    key: Key,
    value: Value,
    ttl: Ttl,
    fence: int | None = None,
    acks: Acks | None = None,
    strict: bool = False,
) -> Plan[int]:
    """Write a value, under the ``fence`` of a lock if there is one; returns its version.

    ``strict`` raises ``Superseded`` where a newer write of the same time has won; else that is only counted.
    """
    plan = _set_value(brain, space, key, value, ttl, fence, acks, strict)
    return forgiving_write(brain, plan, 0) if brain.config.fail_open else plan


def _set_value(
    brain: Brain,
    space: Space,
    key: Key,
    value: Value,
    ttl: Ttl,
    fence: int | None,
    acks: Acks | None,
    strict: bool,
) -> Plan[int]:
    name = space.name_of(key)
    flags, payload = space.encode(value)
    if fence is not None:
        if type(fence) is not int or not 0 < fence < 1 << 53:
            raise InvalidOption(f"fence={shown(fence, 40)}: must be the fence of a lock, an integer from 1 up")
        flags, payload = fenced(fence, flags, payload)
    expiry_ms = NEVER if ttl is None else expiry_in(brain, ttl)
    record = make_record(brain.hlc.stamp(), expiry_ms, flags, _fitting(brain, payload, key))
    written = yield from write(brain, name, record, acks)
    if strict and written.superseded:
        raise Superseded(f"another write of {key!r:.80} at the same time was newer", detail=written.version)
    return written.version


@write_fails_open(False)
def delete(brain: Brain, space: Space, key: Key, acks: Acks | None = None) -> Plan[bool]:
    """Delete the key; returns whether there was something to delete."""
    name = space.name_of(key)
    forget_ms = (
        brain.hlc.now_ms() + TOMBSTONE_MS
    )  # before the stamp: by that, nodes tell a delete from an expired value
    written = yield from write(brain, name, tombstone(brain.hlc.stamp(), forget_ms), acks)
    return written.existed


def store_if(
    brain: Brain,
    space: Space,
    key: Key,
    condition: int,
    flags: int,
    payload: bytes,
    expiry_ms: int,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[tuple[bool, int]]:
    """Write an encoded payload if ``condition`` holds; returns (applied, version now there or 0)."""
    return swap(brain, space.name_of(key), condition, flags, _fitting(brain, payload, key), expiry_ms, acks, operation)


def _set_if(
    brain: Brain,
    space: Space,
    key: Key,
    condition: int,
    value: Value,
    ttl: Ttl,
    acks: Acks | None,
    operation: int | None,
) -> Plan[bool]:
    flags, payload = space.encode(value)
    applied, _ = yield from store_if(
        brain, space, key, condition, flags, payload, expiry_in(brain, ttl), acks, operation
    )
    return applied


@write_fails_open(False)
def cas(
    brain: Brain,
    space: Space,
    key: Key,
    value: Value,
    version: int,
    ttl: Ttl,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[bool]:
    """Write if the key still has ``version``."""
    if isinstance(version, bool) or not isinstance(version, int) or version <= PRESENT or version >= 1 << 64:
        raise InvalidOption(f"version={shown(version, 40)}: must be the version of an Entry")
    return _set_if(brain, space, key, version, value, ttl, acks, operation)


@write_fails_open(False)
def add(
    brain: Brain, space: Space, key: Key, value: Value, ttl: Ttl, acks: Acks | None = None, operation: int | None = None
) -> Plan[bool]:
    """Write if the key is absent."""
    return _set_if(brain, space, key, ABSENT, value, ttl, acks, operation)


@write_fails_open(False)
def replace(
    brain: Brain, space: Space, key: Key, value: Value, ttl: Ttl, acks: Acks | None = None, operation: int | None = None
) -> Plan[bool]:
    """Write if the key is there."""
    return _set_if(brain, space, key, PRESENT, value, ttl, acks, operation)


@write_fails_open(False)
def touch_key(
    brain: Brain, space: Space, key: Key, ttl: Ttl, acks: Acks | None = None, operation: int | None = None
) -> Plan[bool]:
    """Give the key another time to live; returns whether it is there."""
    record = yield from touch(brain, space.name_of(key), expiry_in(brain, ttl), acks, operation)
    return record is not None


@write_fails_open(0)
def incr(
    brain: Brain,
    space: Space,
    key: Key,
    by: int,
    initial: int | None,
    ttl: Ttl,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[int]:
    """Add ``by`` and return the new number."""
    name = space.name_of(key)
    for option, number in (("by", by), ("initial", initial)):
        if number is None and option == "initial":
            continue
        if isinstance(number, bool) or not isinstance(number, int) or not INT64_MIN <= number <= INT64_MAX:
            raise InvalidOption(f"{option}={shown(number, 40)}: must be an integer of at most 64 bits")
    record = yield from increment(brain, name, by, initial, expiry_in(brain, ttl), acks, operation)
    if record is None:
        raise KeyNotFound(f"{key!r:.80} does not exist and no initial value was given")
    return int(payload_of(record))


@write_fails_open(0)
def decr(
    brain: Brain,
    space: Space,
    key: Key,
    by: int,
    initial: int | None,
    ttl: Ttl,
    acks: Acks | None = None,
    operation: int | None = None,
) -> Plan[int]:
    """Subtract ``by`` and return the new number."""
    if isinstance(by, bool) or not isinstance(by, int) or not -INT64_MAX <= by <= INT64_MAX:
        raise InvalidOption(f"by={shown(by, 40)}: must be an integer whose negative fits 64 bits")
    return incr(brain, space, key, -by, initial, ttl, acks, operation)


@batch_fails_open("failed_open_reads")
def get_many(
    brain: Brain,
    space: Space,
    keys: Iterable[Key],
    consistency: str | None = None,
    balancing: str | Balancing | None = None,
) -> Plan[BatchResult[Value]]:
    """Return the values of many keys."""
    return read_many(brain, space, keys, space.decode, consistency, balancing)


@batch_fails_open("failed_open_writes")
def set_many(
    brain: Brain, space: Space, values: Mapping[Key, Value], ttl: Ttl, acks: Acks | None = None
) -> Plan[BatchResult[int]]:
    """Write many values under one time to live; the result holds their versions."""
    if not isinstance(values, Mapping):
        raise UnsupportedValue(f"set_many takes a mapping of keys to values, not {type(values).__name__}")
    values = dict(values)  # whoever has his turn meanwhile may change it
    names = yield from named(space.name_of, values)
    expiry_ms = expiry_in(brain, ttl)
    versions = brain.hlc.stamps(len(names))
    encode, bound = space.encode, min(brain.config.value_limit, _LARGE)
    records = {}
    for stretch in stretches(zip(names.items(), versions, strict=True), len(names)):
        for (key, name), version in stretch:
            flags, payload = encode(values[key])
            if len(payload) > bound:
                _fitting(brain, payload, key)
                yield BREATH
            records[name] = make_record(version, expiry_ms, flags, payload)
        if len(names) > LONG:
            yield BREATH
    _, others = yield from settle_many(brain, records, acks)
    if not others and len(records) == len(names):  # nearly always, and then there is nothing to say of single keys
        return BatchResult(dict(zip(names, versions, strict=True)), frozenset(), {})
    return _batch(names, others, lambda name: version_of(records[name]), lambda done: done.version)


@batch_fails_open("failed_open_writes")
def delete_many(brain: Brain, space: Space, keys: Iterable[Key], acks: Acks | None = None) -> Plan[BatchResult[bool]]:
    """Delete many keys; those that were not there are ``missing``."""
    names = yield from named(space.name_of, keys)
    forget_ms = brain.hlc.now_ms() + TOMBSTONE_MS
    records: dict[bytes, bytes] = {}
    for stretch in stretches(zip(names.values(), brain.hlc.stamps(len(names)), strict=True), len(names)):
        records.update((name, tombstone(version, forget_ms)) for name, version in stretch)
        if len(names) > LONG:
            yield BREATH
    existed, others = yield from settle_many(brain, records, acks)
    return _batch(names, others, lambda name: name in existed or None, lambda done: done.existed or None)


def _batch(
    names: Mapping[Key, bytes],
    others: Mapping[bytes, Written | KvCacheError],
    usual: Callable[[bytes], Any],
    found: Callable[[Written], Any],
) -> BatchResult[Any]:
    """Return the outcome of a batch of writes: ``found`` of those among ``others``, ``usual`` of the rest; None is missing."""
    successes: dict[Key, Any] = {}
    failed: dict[Key, KvCacheError] = {}
    missing: list[Key] = []
    for key, name in names.items():
        done = others.get(name)
        if isinstance(done, KvCacheError):
            failed[key] = done
        elif (result := usual(name) if done is None else found(done)) is None:
            missing.append(key)
        else:
            successes[key] = result
    return BatchResult(successes, frozenset(missing), failed)
