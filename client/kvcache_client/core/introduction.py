"""The introduction of a connection: HELLO, the challenge and its answer, and what the node says of itself.

Here lives that conversation, once for both bodies: a generator that yields the next request and is sent its outcome. Never
here: the arithmetic of proofs (``protocol.auth``), or sending.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from hmac import compare_digest
from typing import TypeAlias

from kvcache_client.core.brain import Brain
from kvcache_client.core.config import ClientConfig
from kvcache_client.core.effects import Outcome
from kvcache_client.core.link import error_of
from kvcache_client.protocol.auth import Claim, Secret, draw_nonce
from kvcache_client.protocol.errors import (
    ConnectFailed,
    KvCacheError,
    MalformedFrame,
    Unauthenticated,
    VersionMismatch,
)
from kvcache_client.protocol.limits import NONCE_BYTES
from kvcache_client.protocol.verbs import PROTOCOL_VERSION, Message, Request, Status, Verb

__all__ = ["Greeting", "Introduction", "hello", "introduce", "read_greeting"]

Introduction: TypeAlias = "Generator[Request, Outcome, Greeting]"


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a node says of itself."""

    protocol: int
    cluster: str
    node: str
    epoch: int
    now_ms: int
    value_limit: int


def hello(config: ClientConfig, nonce: bytes = b"") -> Request:
    """Return the request that introduces a connection. Without a secret there is no nonce."""
    return [0, Verb.HELLO, PROTOCOL_VERSION, config.cluster, int(config.role), nonce, config.name]


def introduce(brain: Brain, address: str, node: str) -> Introduction:
    """Get to know the node at ``address``, which is ``node`` unless that is empty, and the time that it has.

    Raises the error with which the node refuses, or ours if it is not who it should be.
    """
    secret = _secret_of(brain.config)
    nonce = draw_nonce(brain.draw) if secret else b""
    reply = _answer((yield hello(brain.config, nonce)))
    if len(reply) > 1 and reply[1] == Status.CHALLENGE:
        reply = yield from _prove(brain.config, address, secret, nonce, reply)
    elif secret is not None and error_of(reply, verb=Verb.HELLO) is None:
        raise Unauthenticated(f"{address} asks for no secret and shows none, so it may not be the node that is meant")
    greeting = read_greeting(reply)
    if node and greeting.node != node:
        raise ConnectFailed(f"{address} is node {greeting.node!r} now, not {node!r}", node=node)
    brain.hlc.correct(greeting.now_ms)
    return greeting


def _prove(
    config: ClientConfig, address: str, secret: Secret | None, nonce: bytes, challenge: Message
) -> Generator[Request, Outcome, Message]:
    if secret is None:
        raise Unauthenticated(f"{address} asks for a secret, and this client has none for the role {_role(config)}")
    theirs = challenge[2] if len(challenge) > 2 else None
    if not isinstance(theirs, bytes) or len(theirs) < NONCE_BYTES:
        raise MalformedFrame(f"not a challenge: {challenge!r:.100}")
    claim = Claim(config.cluster, config.role, nonce, theirs)
    reply = _answer((yield [0, Verb.AUTH, claim.client_proof(secret)]))
    if error_of(reply, verb=Verb.AUTH) is None:
        proof = reply[8] if len(reply) > 8 else None
        if not isinstance(proof, bytes) or not compare_digest(proof, claim.node_proof(secret)):
            raise Unauthenticated(f"{address} does not know the secret itself, so it is none of this cluster's nodes")
    return reply


def _secret_of(config: ClientConfig) -> Secret | None:
    secret = config.secrets.shown_as(config.role)
    if secret is None and config.secrets:
        raise Unauthenticated(f"{config.secrets!r} holds no secret that is good for the role {_role(config)}")
    return secret


def _role(config: ClientConfig) -> str:
    return config.role.name.lower()


def _answer(outcome: Outcome) -> Message:
    if isinstance(outcome, KvCacheError):
        raise outcome
    return outcome


def read_greeting(reply: Message) -> Greeting:
    """Return what a node says of itself in its last reply. Raises the error that it carries."""
    error = error_of(reply)
    if error is not None:
        raise error
    fields = reply[2:8]
    kinds = (int, str, str, int, int, int)
    if len(fields) != len(kinds) or not all(isinstance(f, k) for f, k in zip(fields, kinds, strict=True)):
        raise MalformedFrame(f"not a reply to HELLO: {reply!r:.100}")
    greeting = Greeting(*fields)
    if greeting.protocol != PROTOCOL_VERSION:
        raise VersionMismatch(f"the node speaks protocol {greeting.protocol}, this client {PROTOCOL_VERSION}")
    return greeting
