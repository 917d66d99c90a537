"""The verbs that carry many keys in one message: GET_MANY and PUT_MANY.

Here lives one field for each key, so that what is wrong with one costs the others nothing. Never here: what becomes of a
key (``service``, ``store``).
"""

from __future__ import annotations

from typing import Final

from mmh3 import mmh3_x64_128_utupledigest

from kvcache.service.checks import bad_key, check_keys
from kvcache.service.service import Handler, Reply, Service
from kvcache_client.placement.partitions import PARTITION_SHIFT
from kvcache_client.protocol.errors import KvCacheError, MalformedFrame, ReplyFull
from kvcache_client.protocol.limits import KEY_BYTES, REPLY_BYTES
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["BatchVerbs"]

_OK: Final = int(Status.OK)
_REPLY_FULL: Final = ReplyFull.code


class BatchVerbs:
    """Reads and writes of many keys, at one node."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.handlers: dict[int, Handler] = {Verb.GET_MANY: self._get_many, Verb.PUT_MANY: self._put_many}

    def _get_many(self, message: Message) -> Reply:
        check_keys(len(message) - 2)
        service = self._service
        fields: list[bytes | int | None]
        if service.runs.reads is None:
            fields, found = [None] * (len(message) - 2), 0
        else:
            fields, found = service.runs.reads.find_many(message, 2, service.store.now6, REPLY_BYTES)
            service.store.hits += found
        if found < len(fields):
            self._fill(message[2:], fields)
        return message[0], _OK, *fields

    def _fill(self, keys: Message, fields: list[bytes | int | None]) -> None:
        """Put into each field that is None what is to be said of its key."""
        service = self._service
        readable, seed, read = service.readable, service.seed, service.reader
        room = REPLY_BYTES - sum(len(field) for field in fields if field.__class__ is bytes)
        for at, key in enumerate(keys):
            if fields[at] is not None:
                continue
            if room <= 0:
                fields[at] = _REPLY_FULL
                continue
            # What ``to_read`` does, without a call that would cost as much as the look-up.
            if key.__class__ is not bytes or not 0 < len(key) <= KEY_BYTES:
                fields[at] = bad_key(key).code
                continue
            partition = mmh3_x64_128_utupledigest(key, seed)[0] >> PARTITION_SHIFT
            if not readable[partition]:
                fields[at] = service.not_mine(partition).code
                continue
            record = read(partition, key)
            if record is None:
                fields[at] = int(service.store.why_missing(partition, key)) or None
            else:
                fields[at] = record
                room -= len(record)

    def _put_many(self, message: Message) -> Reply:
        number, _, epoch, *fields = message
        if epoch.__class__ is not int or len(fields) % 2:
            raise MalformedFrame("PUT_MANY carries an epoch, then pairs of key and record")
        check_keys(len(fields) // 2)
        to_write, keep = self._service.to_write, self._service.keep
        statuses: list[int | None] = []
        for key, record in zip(fields[::2], fields[1::2], strict=True):
            try:
                statuses.append(keep(to_write(epoch, key), key, record)[0])
            except KvCacheError as error:
                statuses.append(error.code)
        return number, _OK, *statuses

    def __repr__(self) -> str:
        return f"<BatchVerbs of {self._service.identity.node}>"
