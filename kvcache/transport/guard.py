"""Guard: who may speak on a connection, and as what.

Here lives the node's side of the handshake, and what guessing costs: the answer to a wrong proof comes late, and an address that
has spent its wrong proofs is not even accepted until some have grown again. Never here: the arithmetic of proofs
(``protocol.auth``), or connections.

The bucket of an address refills so fast that a refusal lasts a fraction of a second: whoever guesses is slowed to that rate,
and a program with the right secret that shares the address (a proxy, a host with one bad worker among many) still gets in.
"""

from __future__ import annotations

import ipaddress
import secrets as chance
from collections.abc import Callable
from typing import Final

from kvcache.events import journal
from kvcache_client.protocol.auth import NO_SECRETS, Claim, Secret, Secrets
from kvcache_client.protocol.errors import MalformedFrame, Unauthenticated
from kvcache_client.protocol.limits import NONCE_BYTES
from kvcache_client.protocol.verbs import Message, Role

__all__ = ["Guard", "Guesses", "network_of", "open_guard"]

_LOG_SECONDS: Final = 1.0
_ADDRESSES: Final = 4096
"""Addresses whose wrong proofs are remembered; who comes from more must have them all."""


class Guesses:
    """How many more wrong proofs an address may send: ``burst``, of which ``rate`` a second grow again."""

    def __init__(self, now: Callable[[], float], rate: float, burst: float) -> None:
        self._now = now
        self._rate = rate
        self._burst = burst
        self._spent: dict[str, tuple[float, float]] = {}

    def spend(self, network: str) -> None:
        """Count one."""
        if len(self._spent) >= _ADDRESSES and network not in self._spent:
            self._forget()
        self._spent[network] = self._left(network) - 1, self._now()

    def are_left(self, network: str) -> bool:
        """Say whether one more would be heard."""
        return network not in self._spent or self._left(network) >= 1

    def _left(self, network: str) -> float:
        left, since = self._spent.get(network, (self._burst, 0.0))
        return min(self._burst, left + (self._now() - since) * self._rate)

    def _forget(self) -> None:
        """Drop the addresses that have all of theirs again, and of the others the oldest, until a quarter is free.

        A look at all of them takes milliseconds: whoever guesses from ever new addresses must not have it for each guess.
        """
        left = [(network, spent) for network, spent in self._spent.items() if self._left(network) < self._burst]
        self._spent = dict(left[-(_ADDRESSES * 3 // 4) :])

    def __repr__(self) -> str:
        return f"<Guesses of {len(self._spent)} addresses>"


class Guard:
    """Knows the secrets that are good at present. Without any it lets everybody in as what they say they are."""

    def __init__(self, secrets: Secrets, guesses: Guesses, now: Callable[[], float]) -> None:
        self.secrets = secrets
        self.guesses = guesses
        self.refused = 0
        """Wrong proofs and tokens."""
        self._now = now
        self._logged_at = -_LOG_SECONDS

    @property
    def asks(self) -> bool:
        """Whether a secret is asked for."""
        return bool(self.secrets)

    def challenge(self, hello: Message) -> Claim:
        """Return what a proof must cover. Raises if the client has thrown nothing in: it has no secret, or a bad generator."""
        _, _, _, cluster, role, nonce, _ = hello
        if not nonce:
            raise Unauthenticated("this node asks for a secret; give one by KVCACHE_SECRET or KVCACHE_SECRET_FILE")
        if not NONCE_BYTES <= len(nonce) <= 2 * NONCE_BYTES:
            raise MalformedFrame(f"a nonce has {NONCE_BYTES} to {2 * NONCE_BYTES} bytes, not {len(nonce)}")
        return Claim(cluster, role, nonce, chance.token_bytes(NONCE_BYTES))

    def admit(self, claim: Claim, proof: object, network: str) -> Secret:
        """Return the secret that was proved. Raises ``Unauthenticated``, and counts it against the address."""
        secret = self.secrets.proving(claim, proof) if isinstance(proof, bytes) else None
        if secret is None:
            self._refuse(network, "a wrong secret")
            raise Unauthenticated("the secret is none of this node's")
        if not secret.allows(claim.role):
            role = secret.role.name.lower()
            self._refuse(network, f"a secret for {role} with which another role was claimed")
            raise Unauthenticated(f"this secret is for the role {role}, and no more may be claimed with it")
        return secret

    def role_of(self, token: bytes, network: str) -> Role | None:
        """Return the role of a bearer token, or None; a wrong one counts as a guess."""
        role = self.secrets.role_of(token)
        if role is None:
            self._refuse(network, "a wrong token")
        return role

    def _refuse(self, network: str, what: str) -> None:
        self.refused += 1
        self.guesses.spend(network)
        now = self._now()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            journal.say("guess_refused", what=what, network=network, so_far=self.refused)

    def __repr__(self) -> str:
        return f"<Guard {self.secrets!r} refused={self.refused}>"


def open_guard(now: Callable[[], float]) -> Guard:
    """Return a guard that asks for nothing."""
    return Guard(NO_SECRETS, Guesses(now, 1.0, 1.0), now)


def network_of(peer: object) -> str:
    """Return whose guesses count together: the IPv4 address, or the /64 that an IPv6 host may choose its own from."""
    host = str(peer[0]) if isinstance(peer, tuple) and peer else ""
    if ":" not in host:
        return host or "?"
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:  # a Unix socket, or a peer that is gone
        return "?"
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
