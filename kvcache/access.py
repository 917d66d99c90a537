"""Access: the secrets of a node, and the refusal to be reachable without any.

Here lives the decision which node may start. Never here: reading secrets (``kvcache_client.credentials``), or asking for them
(``transport.guard``).
"""

from __future__ import annotations

from collections.abc import Mapping

from kvcache.option_values import is_loopback, parse_address
from kvcache.options import NodeOptions
from kvcache_client.credentials import secrets_from
from kvcache_client.protocol.auth import Secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.verbs import Role

__all__ = ["node_secrets"]


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
