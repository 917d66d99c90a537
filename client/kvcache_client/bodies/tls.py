"""TLS: contexts made of files, made again when the files change, and handshakes that failed put into words.

Here lives all that is said to the ``ssl`` module, for both bodies and for the node. Never here: sockets, or which files
(``core.tls``).

Certificates live for months at most, so they are exchanged while the process runs: the files are looked at before a new
connection, once a second at most. Files that are half written, or do not belong together, leave the old ones in use and a line
in the log.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from kvcache_client.core.tls import Tls
from kvcache_client.protocol.errors import (
    CertificateRejected,
    ConnectFailed,
    ConnectionLost,
    InvalidOption,
    KvCacheError,
)

__all__ = ["Contexts", "client_context", "current_context", "refused_handshake", "server_context"]

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0

Stamp = tuple[tuple[int, int, int] | None, ...]


class Contexts:
    """The context of the moment: ``current`` builds it anew after one of its files has changed."""

    def __init__(
        self,
        build: Callable[[], ssl.SSLContext],
        files: tuple[str, ...],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._build = build
        self._files = files
        self._now = now
        self._stamp = _stamp(files)
        self._looked = now()
        self._context = build()

    def current(self) -> ssl.SSLContext:
        """Return the context for a new connection."""
        now = self._now()
        if now - self._looked >= _LOOK_SECONDS:
            self._looked = now
            stamp = _stamp(self._files)
            if stamp != self._stamp:
                self._stamp = stamp
                self._rebuild()
        return self._context

    def _rebuild(self) -> None:
        try:
            self._context = self._build()
        except InvalidOption as error:
            _log.error("the TLS files have changed and are no good, so the old ones stay in use: %s", error)
        else:
            _log.info("read the TLS files again: %s", ", ".join(self._files))

    def __repr__(self) -> str:
        return f"<Contexts of {', '.join(self._files) or 'the system'}>"


def _stamp(files: tuple[str, ...]) -> Stamp:
    return tuple(_stamp_of(path) for path in files)


def _stamp_of(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


@lru_cache(maxsize=64)
def _contexts_of(tls: Tls) -> Contexts:
    return Contexts(lambda: client_context(tls), tls.files)


def current_context(tls: Tls) -> ssl.SSLContext:
    """Return the context for a new connection of any client with these options; they share it. Raises ``InvalidOption``."""
    return _contexts_of(tls).current()


def client_context(tls: Tls) -> ssl.SSLContext:
    """Return what a client shakes hands with: the node's certificate is always checked. Raises ``InvalidOption``."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH) if not tls.ca else _trusting(tls.ca, server=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.certificate:
        _load(context, tls.certificate, tls.key)
    return context


def server_context(certificate: str, key: str, ca: str) -> ssl.SSLContext:
    """Return what a node shakes hands with. With ``ca``, clients must show a certificate that it has signed."""
    context = _trusting(ca, server=True) if ca else ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if ca:
        context.verify_mode = ssl.CERT_REQUIRED
    _load(context, certificate, key)
    return context


def _trusting(ca: str, *, server: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=ca)
    except (OSError, ValueError) as error:
        raise InvalidOption(f"cannot use the CA certificates in {ca}: {_in_words(error)}") from error
    return context


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    try:
        context.load_cert_chain(certificate, key or None, password=_no_password)
    except (OSError, ValueError) as error:
        both = f"{certificate} and {key}" if key else certificate
        raise InvalidOption(f"cannot use the certificate and key in {both}: {_in_words(error)}") from error


def _no_password() -> str:
    """Keep OpenSSL from asking at the terminal."""
    raise ValueError("the key is encrypted; a key file without a password is needed")


def _in_words(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return {"KEY_VALUES_MISMATCH": "the key is another certificate's"}.get(
            error.reason, error.reason or "there is no PEM data in it"
        )
    return getattr(error, "strerror", None) or str(error)


def refused_handshake(address: str, node: str, error: BaseException | None, tls: Tls | None) -> KvCacheError | None:
    """Return what a TLS failure of a new connection to a node means, and whose certificate is to blame; None if it is none."""
    if tls is None:
        return None
    whose = f"{address} (node {node})" if node else address
    mine = f"the certificate {tls.certificate} of this client" if tls.certificate else "a client without a certificate"
    cause = error.__cause__ if isinstance(error, ConnectionLost) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        trusted = tls.ca or "the system's CAs"
        return CertificateRejected(
            f"the certificate of {whose} is refused: {cause.verify_message}; checked by {trusted}", node=node or None
        )
    if isinstance(cause, ssl.SSLError):
        reason = (cause.reason or str(cause)).replace("_", " ").lower()
        if "alert" in reason:
            return CertificateRejected(f"{whose} refuses {mine}: {reason.partition('alert ')[2]}", node=node or None)
        return ConnectFailed(f"{address}: no TLS handshake: {reason}; does this node speak TLS?", node=node or None)
    if isinstance(error, ConnectionLost) and isinstance(cause, ConnectionError):
        # In TLS 1.3 a client has shaken hands before the node looks at its certificate, and asyncio sends no alert.
        return CertificateRejected(
            f"{whose} hung up after the handshake, as nodes do that refuse {mine}; its log says why", node=node or None
        )
    return None
