"""Who may speak as what: secrets, and how each end proves that it knows one without saying it.

Here lives the arithmetic of a challenge and its response, and the rules of roles. Never here: where secrets come from
(``credentials``), or what becomes of a connection whose proof is wrong (the node's ``transport``).

Both ends throw in a number that is used once, and both prove with HMAC-SHA256 (RFC 2104) that they know the same secret, over
everything that was said: so a recorded proof is worth nothing, one end's proof is not the other's, and a proof for one
role or cluster is none for another. In the spirit of SCRAM (RFC 5802), without its slow hash: these secrets are drawn by
machines, not thought up by people, and short ones are refused. It is no encryption: what follows can be read, and a connection
taken over, by whoever sits between. That is what TLS is for.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.limits import NONCE_BYTES, SECRET_BYTES_MAX, SECRET_BYTES_MIN
from kvcache_client.protocol.verbs import Role

__all__ = ["NO_SECRETS", "Claim", "Secret", "Secrets", "draw_nonce", "parse_secrets"]

_CLIENT: Final = b"kvcache 1 client"
_NODE: Final = b"kvcache 1 node"
_DRAW_BYTES: Final = 4
"""Of each draw's 53 random bits, those that are surely even."""


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret, and the highest role that whoever knows it may take."""

    role: Role
    key: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not SECRET_BYTES_MIN <= len(self.key) <= SECRET_BYTES_MAX:
            raise InvalidOption(
                f"a secret of {len(self.key)} bytes: must be {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX}; "
                "openssl rand -hex 32 makes a good one"
            )

    def allows(self, role: int) -> bool:
        """Say whether it is good for ``role``: an admin's is for everything, a node's for all that clients do."""
        return role <= self.role


@dataclass(frozen=True, slots=True)
class Claim:
    """What was said on a connection before any proof; each proof covers all of it."""

    cluster: str
    """As the client named it; empty for any."""
    role: int
    client_nonce: bytes
    node_nonce: bytes

    def client_proof(self, secret: Secret) -> bytes:
        """Return what a client that knows ``secret`` answers to the challenge."""
        return self._proof(_CLIENT, secret)

    def node_proof(self, secret: Secret) -> bytes:
        """Return by what a node shows in turn that it knows ``secret``."""
        return self._proof(_NODE, secret)

    def _proof(self, end: bytes, secret: Secret) -> bytes:
        said = (end, self.cluster.encode(), b"%d" % self.role, self.client_nonce, self.node_nonce)
        return hmac.digest(secret.key, b"".join(len(part).to_bytes(4, "big") + part for part in said), "sha256")


class Secrets:
    """The secrets that are good at present; several of one role while they are being exchanged."""

    __slots__ = ("_all",)

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._all = tuple(secrets)

    def shown_as(self, role: Role) -> Secret | None:
        """Return the secret with which to speak as ``role``: the first of the lowest role that allows it."""
        return min((secret for secret in self._all if secret.allows(role)), key=lambda s: s.role, default=None)

    def proving(self, claim: Claim, proof: bytes) -> Secret | None:
        """Return the secret that the client's proof shows, whatever its role. Takes as long for a right one as for a wrong."""
        found = None
        for secret in self._all:
            if hmac.compare_digest(claim.client_proof(secret), proof):
                found = secret
        return found

    def role_of(self, token: bytes) -> Role | None:
        """Return the role of a secret that is shown openly (HTTP's bearer token), None if it is none."""
        found = None
        for secret in self._all:
            if hmac.compare_digest(secret.key, token):
                found = secret.role
        return found

    def __bool__(self) -> bool:
        return bool(self._all)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secrets) and self._all == other._all

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return f"<Secrets {', '.join(secret.role.name.lower() for secret in self._all) or 'none'}>"


NO_SECRETS: Final = Secrets(())
"""Everybody is taken for what they say they are."""


def draw_nonce(random: Callable[[], float]) -> bytes:
    """Return a number that nobody can foresee. ``random`` draws from [0, 1) and must be the system's own generator."""
    return b"".join(
        int(random() * 2 ** (8 * _DRAW_BYTES)).to_bytes(_DRAW_BYTES, "big") for _ in range(NONCE_BYTES // 4)
    )


def parse_secrets(text: str, where: str) -> Secrets:
    """Return the secrets in ``text``: one a line, ``ROLE SECRET`` or, for every role, ``SECRET``; ``#`` begins a comment.

    Raises ``InvalidOption`` that says ``where`` and which line, never what stands there.
    """
    if not isinstance(text, str):
        raise InvalidOption(f"{where} of type {type(text).__name__}: must be text")
    secrets = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        secrets.append(_secret_of(words, f"{where}, line {number}"))
    if not secrets:
        raise InvalidOption(f"{where} holds no secret")
    return Secrets(secrets)


def _secret_of(words: list[str], where: str) -> Secret:
    roles = {role.name.lower(): role for role in Role}
    role, *rest = words if len(words) > 1 else ("admin", *words)
    if role.lower() not in roles or len(rest) != 1:
        raise InvalidOption(f"{where}: must be ROLE SECRET, with a role of {', '.join(roles)}")
    try:
        return Secret(roles[role.lower()], rest[0].encode())
    except UnicodeEncodeError:
        raise InvalidOption(f"{where}: is not Unicode text") from None  # the cause would show it
    except InvalidOption as error:
        raise InvalidOption(f"{where}: {error}") from error
