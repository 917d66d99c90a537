"""Carrying out a batch: rounds that are small enough for memory and for the client's time, and one outcome per key.

Here lives the route ``POST /v1/batch``. Never here: the form of requests and outcomes (``batch_form``), single keys
(``kv``), splitting by owner (the embedded client).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgpack
from aiohttp import web

from kvcache.transport.http.answers import error_name
from kvcache.transport.http.batch_form import SetRow, read_batch
from kvcache.transport.http.body import BodyReader
from kvcache.transport.http.kv import RecordClient, remaining_seconds
from kvcache.transport.http.limits import HttpLimits
from kvcache.transport.http.media import shown
from kvcache_client.core import plans
from kvcache_client.core.batch_writes import write_many
from kvcache_client.core.batches import read_many
from kvcache_client.core.brain import Brain
from kvcache_client.core.reading import hard
from kvcache_client.core.writing import Written
from kvcache_client.protocol.errors import (
    BatchTooLarge,
    InvalidTtl,
    KvCacheError,
    ReplyFull,
    UnsupportedValue,
)
from kvcache_client.protocol.limits import KEYS_PER_FRAME
from kvcache_client.protocol.record import (
    TOMBSTONE_MS,
    make_record,
    tombstone,
    version_of,
)

__all__ = ["BATCH_TYPE", "BatchRoute"]

BATCH_TYPE: Final = "application/msgpack"

_FIRST_SLICE: Final = 64
"""Keys in the first round of gets. While values turn out small the rounds grow, so that large ones never pile up."""

_SLICE_BYTES: Final = 1024 * 1024
"""Bytes that one round should carry: the rounds of a batch must each fit the embedded client's time for one call."""

_FULL: Final = ReplyFull()


class BatchRoute:
    """The route of many keys."""

    __slots__ = ("_bodies", "_client", "_limits")

    def __init__(self, client: RecordClient, bodies: BodyReader, limits: HttpLimits) -> None:
        self._client = client
        self._bodies = bodies
        self._limits = limits

    async def post(self, request: web.BaseRequest) -> web.Response:
        """Answer POST."""
        if request.content_type.lower() != BATCH_TYPE:
            raise UnsupportedValue(f"a batch is {BATCH_TYPE}, not {request.content_type!r:.80}")
        body = await self._bodies.read(request, self._limits.batch_bytes, BatchTooLarge)
        batch = read_batch(body, self._limits)
        brain = self._client.brain
        expiries = [_expiry(row, index, brain) for index, row in enumerate(batch.set)]
        outcomes: dict[str, list[Any]] = {}
        if batch.get:
            outcomes["get"] = await self._get(batch.get)
        if batch.set:
            outcomes["set"] = await self._set(batch.set, expiries)
        if batch.delete:
            outcomes["delete"] = await self._delete(batch.delete)
        reply = msgpack.packb({section: outcomes.get(section, []) for section in batch.sections})
        return web.Response(body=reply, content_type=BATCH_TYPE, headers={"Cache-Control": "no-store"})

    async def _get(self, keys: list[bytes]) -> list[Any]:
        brain = self._client.brain
        outcomes: list[Any] = []
        size = _FIRST_SLICE
        room = self._limits.batch_bytes
        while len(outcomes) < len(keys) and room > 0:
            part = keys[len(outcomes) : len(outcomes) + size]
            result = await self._client.run(read_many(brain, brain.spaces.whole, part, hard))
            weight = sum(map(len, result.values()))
            now_ms = brain.hlc.now_ms()
            for key in part:
                record = result.get(key)
                if record is not None and room > 0:
                    outcomes.append(_hit(record, now_ms))
                    room -= len(record)
                elif record is not None:
                    outcomes.append(_error(_FULL))
                else:
                    outcomes.append(_error(result.failed[key]) if key in result.failed else None)
            size = min(size * 2, KEYS_PER_FRAME) if weight * 2 <= _SLICE_BYTES else _FIRST_SLICE
        return outcomes + [_error(_FULL)] * (len(keys) - len(outcomes))

    async def _set(self, rows: list[SetRow], expiries: list[int]) -> list[Any]:
        brain = self._client.brain
        records = {
            row.key: make_record(brain.hlc.stamp(), expiry_ms, row.kind, row.payload)
            for row, expiry_ms in zip(rows, expiries, strict=True)
        }
        written = await self._write(records)
        return [_outcome(written[row.key], "version") for row in rows]

    async def _delete(self, keys: list[bytes]) -> list[Any]:
        brain = self._client.brain
        forget_ms = brain.hlc.now_ms() + TOMBSTONE_MS
        written = await self._write({key: tombstone(brain.hlc.stamp(), forget_ms) for key in keys})
        return [_outcome(written[key], "existed") for key in keys]

    async def _write(self, records: dict[bytes, bytes]) -> dict[bytes, Written | KvCacheError]:
        written: dict[bytes, Written | KvCacheError] = {}
        for part in _slices(list(records.items())):
            written.update(await self._client.run(write_many(self._client.brain, dict(part))))
        return written

    def __repr__(self) -> str:
        return f"<BatchRoute keys<={self._limits.batch_keys} bytes<={self._limits.batch_bytes} {self._client!r}>"


def _expiry(row: SetRow, index: int, brain: Brain) -> int:
    try:
        return plans.expiry_in(brain, row.ttl)
    except InvalidTtl as error:
        raise InvalidTtl(f"set[{index}]: {error}") from error


def _slices(items: Sequence[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Yield the records in rounds of at most ``KEYS_PER_FRAME`` keys and about ``_SLICE_BYTES``."""
    part: list[tuple[bytes, bytes]] = []
    weight = 0
    for item in items:
        part.append(item)
        weight += len(item[1])
        if len(part) >= KEYS_PER_FRAME or weight >= _SLICE_BYTES:
            yield part
            part, weight = [], 0
    if part:
        yield part


def _hit(record: bytes, now_ms: int) -> Any:
    try:
        value = shown(record)
    except KvCacheError as error:
        return _error(error)
    return [value.kind.name.lower(), value.payload, version_of(record), remaining_seconds(record, now_ms)]


def _outcome(written: Written | KvCacheError, field_name: str) -> Any:
    return _error(written) if isinstance(written, KvCacheError) else getattr(written, field_name)


def _error(error: KvCacheError) -> dict[str, Any]:
    return {"error": error_name(error), "message": str(error), "retryable": error.retryable}
