"""Which certificates a client believes and shows.

Here lives the choice, as names of files. Never here: reading them or a handshake (``bodies.tls``).
"""

from __future__ import annotations

from dataclasses import dataclass

from kvcache_client.core.kinds import HOST, PATH, check_kinds
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["Tls"]


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to every node. Files are PEM, and are read again when they change."""

    ca: str = ""
    """Who may have signed the nodes' certificates; empty takes those that the system trusts."""
    certificate: str = ""
    """What this client shows to nodes that ask for a certificate (mutual TLS)."""
    key: str = ""
    """Its key; empty if that is in the same file."""
    server_name: str = ""
    """The name that every node's certificate must hold; empty: the host of the node's address."""

    def __post_init__(self) -> None:
        check_kinds(self, {"ca": PATH, "certificate": PATH, "key": PATH, "server_name": HOST})
        if self.key and not self.certificate:
            raise InvalidOption(f"a TLS key ({self.key}) needs the certificate that it belongs to")

    @property
    def files(self) -> tuple[str, ...]:
        """All files that are read."""
        return tuple(path for path in (self.ca, self.certificate, self.key) if path)
