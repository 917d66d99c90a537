"""The stronghold: one node process to be besieged, with a secret, with TLS, or open.

Here lives its start and its end. Never here: load.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from kvcache.memory import node_environment
from kvcache_client import Client, ClientConfig
from kvcache_client.core.tls import Tls
from kvcache_client.protocol.auth import NO_SECRETS, parse_secrets
from kvcache_client.protocol.errors import NotApplied
from loadtests import CannotRun
from loadtests.server_process import ServerProcess, accepts, free_ports

__all__ = ["SECRET", "Stronghold", "stronghold"]

SECRET: Final = "a secret of the siege".replace(" ", "-")
_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Stronghold:
    """A node that runs, and how its friends reach it."""

    process: ServerProcess
    port: int
    config: ClientConfig

    @property
    def address(self) -> str:
        """Where it is."""
        return f"{_HOST}:{self.port}"


@contextlib.contextmanager
def stronghold(*, secret: bool = False, tls: bool = False, core: int | None = None) -> Iterator[Stronghold]:
    """Run a node for as long as the block; ``core`` is where."""
    (port,) = free_ports(1)
    with TemporaryDirectory() as folder:
        certificates = _certificates(Path(folder)) if tls else {}
        command = [sys.executable, "-m", "kvcache", "node", "--listen", f"{_HOST}:{port}", "--max-connections", "12000"]
        options = [word for name, path in certificates.items() for word in (f"--tls-{name}", path)]
        environment = node_environment(os.environ) | ({"KVCACHE_SECRET": SECRET} if secret else {})
        process = ServerProcess("the besieged node", [*command, *options], core=core, environment=environment)
        try:
            config = ClientConfig(
                5.0,
                5.0,
                secrets=parse_secrets(SECRET, "siege") if secret else NO_SECRETS,
                tls=Tls(ca=certificates["ca"]) if tls else None,
            )
            process.wait_until(lambda: accepts(port) and _has_joined(port, config))
            yield Stronghold(process, port, config)
        finally:
            process.stop()


def _has_joined(port: int, config: ClientConfig) -> bool:
    try:
        with Client([f"{_HOST}:{port}"], config=config) as client:
            client.topology()
    except NotApplied:
        return False
    return True


def _certificates(folder: Path) -> Mapping[str, str]:
    try:
        import trustme
    except ImportError as error:
        raise CannotRun("certificates are made by trustme; pip install trustme") from error
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    authority.issue_cert(_HOST).private_key_and_cert_chain_pem.write_to_path(str(folder / "node.pem"))
    return {"ca": str(folder / "ca.pem"), "certificate": str(folder / "node.pem")}
