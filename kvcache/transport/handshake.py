"""Handshake: from the first message of a connection to its role.

Here lives the order of HELLO, CHALLENGE and AUTH. Never here: what is checked (``guard``, the service), or bytes (``stream``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from kvcache.service.later import Later
from kvcache.service.service import Handler, Reply, Service
from kvcache.transport.guard import Guard
from kvcache_client.protocol.auth import Claim
from kvcache_client.protocol.errors import Unauthenticated
from kvcache_client.protocol.verbs import Message, Status, Verb

__all__ = ["Handshake"]

_CHALLENGE: Final = int(Status.CHALLENGE)


class Handshake:
    """Who speaks on one connection. ``admit`` is called with the role once that is known; until then only ``handlers`` answer."""

    __slots__ = ("_admit", "_claim", "_greeting", "_guard", "_network", "_refusal_seconds", "_service", "handlers")

    def __init__(
        self, service: Service, guard: Guard, network: str, refusal_seconds: float, admit: Callable[[int], None]
    ) -> None:
        self.handlers: dict[int, Handler] = {Verb.HELLO: self._hello}
        self._service = service
        self._guard = guard
        self._network = network
        self._refusal_seconds = refusal_seconds
        self._admit = admit
        self._greeting: Reply = ()
        self._claim: Claim

    def _hello(self, message: Message) -> Reply:
        greeting = self._service.handlers[Verb.HELLO](message)
        if not self._guard.asks:
            self._admit(message[4])
            return greeting
        self._greeting, self._claim = greeting, self._guard.challenge(message)
        self._expect({Verb.AUTH: self._authenticate})
        return message[0], _CHALLENGE, self._claim.node_nonce

    def _authenticate(self, message: Message) -> Reply:
        number, _, proof = message
        self._expect({})  # one guess is all that a connection has
        try:
            secret = self._guard.admit(self._claim, proof, self._network)
        except Unauthenticated as error:
            raise Later(_refuse_slowly(error, self._refusal_seconds), lambda _: ()) from error
        self._admit(self._claim.role)
        return number, *self._greeting[1:], self._claim.node_proof(secret)

    def _expect(self, handlers: dict[int, Handler]) -> None:
        self.handlers.clear()
        self.handlers.update(handlers)

    def __repr__(self) -> str:
        return f"<Handshake with {self._network} expects {[Verb(verb).name for verb in self.handlers]}>"


async def _refuse_slowly(error: Unauthenticated, seconds: float) -> None:
    """Raise ``error``, but let whoever guesses wait for it."""
    await asyncio.sleep(seconds)
    raise error
