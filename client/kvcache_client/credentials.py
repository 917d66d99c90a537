"""Credentials: where the secrets and certificates of a process come from.

Here lives reading them: a file, or the environment; never an argument of a command, which every user of the machine can see.
Never here: what they are good for (``protocol.auth``, ``bodies.tls``).
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from kvcache_client.core.tls import Tls
from kvcache_client.protocol.auth import NO_SECRETS, Secrets, parse_secrets
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.seeds import asks_for_tls

__all__ = [
    "SECRET_FILE_VARIABLE",
    "SECRET_VARIABLE",
    "TLS_VARIABLES",
    "secrets_for",
    "secrets_from",
    "secrets_in_file",
    "tls_for",
    "tls_from",
]

_log = logging.getLogger(__name__)

SECRET_VARIABLE: Final = "KVCACHE_SECRET"  # noqa: S105  the name of one
SECRET_FILE_VARIABLE: Final = "KVCACHE_SECRET_FILE"  # noqa: S105

TLS_VARIABLES: Final[Mapping[str, str]] = {
    "ca": "KVCACHE_TLS_CA",
    "certificate": "KVCACHE_TLS_CERTIFICATE",
    "key": "KVCACHE_TLS_KEY",
    "server_name": "KVCACHE_TLS_SERVER_NAME",
}
"""Field of ``Tls`` -> where the environment holds it."""

_FILE_BYTES: Final = 64 * 1024


def secrets_for(secret: str | None, *, anywhere: bool) -> Secrets | None:
    """Return what a program gave, else, if it may come from ``anywhere``, what its environment holds; None is nothing."""
    if secret is not None:
        return parse_secrets(secret, "secret")
    return secrets_from(os.environ) or None if anywhere else None


def secrets_from(environment: Mapping[str, str], file: str | None = None) -> Secrets:
    """Return the secrets in ``file``, else in the file that the environment names, else in the environment; or none.

    Raises ``InvalidOption`` that names the place and what is wrong there.
    """
    path = file or environment.get(SECRET_FILE_VARIABLE)
    if path:
        return secrets_in_file(path)
    text = environment.get(SECRET_VARIABLE)
    return parse_secrets(text, SECRET_VARIABLE) if text else NO_SECRETS


def tls_for(seeds: str | Sequence[str], *, anywhere: bool) -> Tls | None:
    """Return the TLS that the scheme of the seeds, or the environment (if it may come from ``anywhere``), asks for."""
    found = tls_from(os.environ) if anywhere else None
    return found or (Tls() if asks_for_tls(seeds) else None)


def tls_from(environment: Mapping[str, str]) -> Tls | None:
    """Return the TLS that the environment describes, None if it says nothing of it."""
    given = {name: environment.get(variable, "") for name, variable in TLS_VARIABLES.items()}
    return Tls(**given) if any(given.values()) else None


def secrets_in_file(path: str) -> Secrets:
    """Return the secrets in a file. One that everybody can read is used, with a warning that says how to change that."""
    try:
        with Path(path).open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            data = file.read(_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidOption(f"cannot read the secret file {path}: {error.strerror or error}") from error
    if len(data) > _FILE_BYTES:
        raise InvalidOption(f"the secret file {path} has over {_FILE_BYTES} bytes; it holds a secret a line")
    if mode & stat.S_IROTH:
        _log.warning("every user of this machine can read the secret file %s; chmod o-r,g-w it", path)
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidOption(f"the secret file {path} is not UTF-8") from error
    return parse_secrets(text, f"the secret file {path}")
