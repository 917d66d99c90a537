"""Seeds: the addresses that a caller gives to find the cluster.

Here lives their syntax. They are kept as given and never replaced by learned addresses, so a client can find its way back
even after every node has moved.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import AddressValueError, IPv6Address

from kvcache_client.protocol.errors import (
    CertificateRejected,
    ConnectFailed,
    InvalidOption,
    KvCacheError,
    Unauthenticated,
    Unavailable,
    UsageError,
    WrongCluster,
)

__all__ = ["DEFAULT_PORT", "asks_for_tls", "no_seed_answered", "parse_seeds", "split_address"]

DEFAULT_PORT = 7700

_SCHEME = "kvcache://"
_TLS_SCHEME = "kvcaches://"
_DIGITS = re.compile("[0-9]{1,5}")
_NAME = re.compile(r"[^\[\]/:\s]+")


def parse_seeds(seeds: str | Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Return (addresses as host:port, cluster name or "") of ``kvcache://host:port,host:port/cluster`` or a list.

    Raises ``InvalidOption`` that names the part which is wrong.
    """
    cluster = ""
    if isinstance(seeds, str):
        _check_no_user(seeds, "seeds")
        text = _without_scheme(seeds)
        if "://" in text:
            raise InvalidOption(f"seeds {seeds!r:.120}: the scheme must be {_SCHEME}, or {_TLS_SCHEME} for TLS")
        text, _, cluster = text.partition("/")
        parts: Sequence[object] = [part for part in text.split(",") if part.strip()]
    elif isinstance(seeds, Sequence) and not isinstance(seeds, bytes | bytearray | memoryview):
        parts = seeds
    else:
        raise InvalidOption(f"seeds of type {type(seeds).__name__}: must be text or a list of host:port")
    if not parts:
        raise InvalidOption(f"seeds {seeds!r:.120}: at least one host:port is needed")
    return tuple(dict.fromkeys(_address(part) for part in parts)), cluster


def asks_for_tls(seeds: str | Sequence[str]) -> bool:
    """Say whether ``kvcaches://`` is written before the seeds, or before any of them."""
    return any(str(part).lstrip().startswith(_TLS_SCHEME) for part in ([seeds] if isinstance(seeds, str) else seeds))


def no_seed_answered(errors: Mapping[str, KvCacheError]) -> KvCacheError:
    """Return the error of a client that found no way in: each seed and why.

    A wrong cluster name, a secret or a certificate that is not taken, and files that can't be read are that and nothing else: no
    other seed makes them right.
    """
    for error in errors.values():
        if isinstance(error, WrongCluster | Unauthenticated | CertificateRejected | UsageError):
            return error
    reasons = (str(error) if isinstance(error, ConnectFailed) else f"{seed}: {error}" for seed, error in errors.items())
    return Unavailable(f"no seed answered: {'; '.join(sorted(reasons))}")


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[v6]:port``. Raises ``ConnectFailed`` if no resolver can take the host."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        host.encode("idna")  # as the resolver will; its error is no OSError
    except UnicodeError as error:
        raise ConnectFailed(f"{address:.80}: no host name: a label of it is empty, too long or not in IDNA") from error
    return host, int(port)


def _without_scheme(text: str) -> str:
    return text.strip().removeprefix(_TLS_SCHEME).removeprefix(_SCHEME)


def _check_no_user(text: str, what: str) -> None:
    """Refuse ``user:password@host`` without repeating any of it: errors end up in logs."""
    if "@" in text:
        raise InvalidOption(
            f"{what}: a user or password has no place here, and what stands before '@' is not shown; "
            "a secret is given as secret= or in KVCACHE_SECRET"
        )


def _address(part: object) -> str:
    if not isinstance(part, str):
        raise InvalidOption(f"seed of type {type(part).__name__}: must be text of the form host:port")
    _check_no_user(part, "seed")
    text = _without_scheme(part)
    bare_ipv6 = text.count(":") > 1 and "[" not in text and "]" not in text
    if bare_ipv6 or text.endswith("]") or ":" not in text:
        text = f"[{text}]:{DEFAULT_PORT}" if bare_ipv6 else f"{text}:{DEFAULT_PORT}"
    host, _, port = text.rpartition(":")
    if not _is_host(host) or not _DIGITS.fullmatch(port) or not 0 < int(port) < 65536:
        raise InvalidOption(
            f"seed {part!r:.80}: must be host:port, an IPv6 host in brackets, with a port of 1 to 65535"
        )
    return text


def _is_host(text: str) -> bool:
    """Say whether ``text`` can be a host; one that does not exist is found out when it is asked."""
    if not text.startswith("["):
        return _NAME.fullmatch(text) is not None and text.isprintable()
    try:
        IPv6Address(text.removeprefix("[").removesuffix("]"))
    except AddressValueError:
        return False
    return text.endswith("]")
