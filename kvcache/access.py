"""Access: the secrets and certificates of a node, and the refusal to be reachable without a secret.

Here lives the decision which node may start, and the exchange of both while it runs. Never here: reading them
(``kvcache_client.credentials``, ``bodies.tls``), or asking for them (``transport.guard``).
"""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from typing import Final

from kvcache.events import journal
from kvcache.option_values import is_loopback, parse_address
from kvcache.options import NodeOptions
from kvcache.transport.guard import Guard, Guesses
from kvcache_client.bodies.tls import Contexts, server_context
from kvcache_client.core.tls import Tls
from kvcache_client.credentials import SECRET_FILE_VARIABLE, secrets_from
from kvcache_client.protocol.auth import Secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.verbs import Role

__all__ = ["Access", "node_secrets"]

_GUESSES: Final = (20.0, 40.0)
"""Wrong secrets that one address may send: every second, and at once."""


def node_secrets(options: NodeOptions, environment: Mapping[str, str]) -> Secrets:
    """Return the secrets that the node asks for. Raises ``InvalidOption`` where it must not start with them."""
    secrets = secrets_from(environment, options.secret_file)
    if not secrets and not is_loopback(parse_address(options.listen)[0]):
        raise InvalidOption(
            f"listen {options.listen} can be reached from other machines, and there is no secret: make one "
            "(openssl rand -hex 32 > FILE && chmod 600 FILE) and name it by --secret-file FILE on every node, "
            "or put it into KVCACHE_SECRET; or listen on 127.0.0.1"
        )
    if secrets and secrets.shown_as(Role.NODE) is None:
        raise InvalidOption(f"{secrets!r} hold none for the role node, so nodes could not speak to each other")
    return secrets


class Access:
    """What a node asks for and what it shows: secrets and certificates, which may be exchanged while it runs."""

    def __init__(self, options: NodeOptions, environment: Mapping[str, str]) -> None:
        self._options = options
        self._environment = environment
        self.guard = Guard(node_secrets(options, environment), Guesses(time.monotonic, *_GUESSES), time.monotonic)
        self.tls = _own_tls(options)
        self._contexts = _contexts(options)
        self._stamp = self._secrets_stamp()
        if self.tls is None and not is_loopback(parse_address(options.listen)[0]):
            journal.say("without_tls", listen=options.listen)

    def context(self) -> ssl.SSLContext | None:
        """Return the TLS of a new connection to this node, None for none."""
        return self._contexts.current() if self._contexts else None

    def reload_secrets(self) -> bool:
        """Read the secret file again if it has changed; returns whether other secrets are good now."""
        stamp = self._secrets_stamp()
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            found = node_secrets(self._options, self._environment)
        except InvalidOption as error:
            journal.say("secrets_unusable", error=error)
            return False
        changed, self.guard.secrets = found != self.guard.secrets, found
        if changed:
            journal.say("secrets_read", secrets=repr(found))
        return changed

    def _secrets_stamp(self) -> object:
        path = self._options.secret_file or self._environment.get(SECRET_FILE_VARIABLE)
        try:
            status = os.stat(path) if path else None
        except OSError:
            return None
        return status and (status.st_mtime_ns, status.st_ino, status.st_size)

    def __repr__(self) -> str:
        return f"<Access {self.guard!r} {self.tls or 'without TLS'}>"


def _own_tls(options: NodeOptions) -> Tls | None:
    """Return how this node speaks to the others: to them it shows the certificate that it shows to everybody."""
    if not options.tls_certificate:
        return None
    return Tls(ca=options.tls_ca, certificate=options.tls_certificate, key=options.tls_key)


def _contexts(options: NodeOptions) -> Contexts | None:
    if not options.tls_certificate:
        return None
    files = (options.tls_certificate, options.tls_key, options.tls_client_ca)
    return Contexts(lambda: server_context(*files), tuple(filter(None, files)))
