"""The verbs about the conversation and the node itself: HELLO, PING, TOPOLOGY, STATS.

Here lives how a node introduces itself and what it tells of itself. Never here: data (``service``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from kvcache.service.service import Handler, Reply, Service
from kvcache_client.protocol.errors import HelloRequired, MalformedFrame, NotReady, VersionMismatch, WrongCluster
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, Message, Status, Verb

__all__ = ["ConversationVerbs"]

_OK: Final = int(Status.OK)


class ConversationVerbs:
    """What a connection begins with. ``statistics`` is called for STATS and must return plain data."""

    def __init__(self, service: Service, statistics: Callable[[], dict[str, Any]]) -> None:
        self._service = service
        self._statistics = statistics
        self.handlers: dict[int, Handler] = {
            Verb.HELLO: self._hello,
            Verb.PING: self._ping,
            Verb.TOPOLOGY: self._topology,
            Verb.STATS: self._stats,
            Verb.AUTH: self._no_challenge,
        }

    def _hello(self, message: Message) -> Reply:
        number, _, protocol, cluster, role, nonce, name = message
        kinds = (int, str, int, bytes, str)
        fields = (protocol, cluster, role, nonce, name)
        if tuple(map(type, fields)) != kinds:  # exactly: a boolean is no number
            raise MalformedFrame("HELLO carries protocol, cluster, role, nonce, name")
        if protocol < PROTOCOL_VERSION:
            raise VersionMismatch(f"the client speaks protocol {protocol}, this node {PROTOCOL_VERSION}")
        mine = self._service.identity
        if cluster and cluster != mine.cluster:
            raise WrongCluster(f"this node belongs to cluster {mine.cluster!r}, not {cluster!r:.80}")
        return (
            number,
            _OK,
            PROTOCOL_VERSION,
            mine.cluster,
            mine.node,
            self._service.epoch,
            self._service.now_ms,
            mine.value_limit,
        )

    def _no_challenge(self, message: Message) -> Reply:
        """Answer AUTH where nothing is open; the handshake itself is the connection's (``transport``)."""
        _, _, proof = message
        if not isinstance(proof, bytes):
            raise MalformedFrame("AUTH carries a proof in bytes")
        raise HelloRequired("AUTH answers the challenge that follows HELLO, and there is none")

    def _ping(self, message: Message) -> Reply:
        number, _ = message
        return number, _OK, self._service.epoch, self._service.now_ms

    def _topology(self, message: Message) -> Reply:
        number, _ = message
        ownership = self._service.ownership
        if ownership is None:
            raise NotReady("the node has not joined its cluster yet")
        return number, _OK, ownership.epoch, ownership.document

    def _stats(self, message: Message) -> Reply:
        number, _ = message
        return number, _OK, json.dumps(self._statistics()).encode()

    def __repr__(self) -> str:
        return f"<ConversationVerbs of {self._service.identity.node}>"
