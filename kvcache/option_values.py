"""Option values: how the text of an option becomes a size, an address, a name or a number.

Here live pure parsers that raise ``ValueError`` with the value and what was expected. Each may be given its
own result again, so a value from a program, a file or the command line takes the same path. Never here: which
options exist.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

N = TypeVar("N", int, float)

__all__ = [
    "WILDCARD_HOSTS",
    "format_size",
    "is_loopback",
    "parse_address",
    "parse_advertised",
    "parse_choice",
    "parse_coordinator",
    "parse_duration",
    "parse_integer",
    "parse_listening",
    "parse_name",
    "parse_name_or_nothing",
    "parse_path",
    "parse_seconds",
    "parse_size",
    "parse_text",
    "within",
]

WILDCARD_HOSTS: Final = ("0.0.0.0", "::")  # noqa: S104  named so that they can be refused
"""Hosts that mean "every address of this machine": to listen on, never to be reached by."""

_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)\s*([a-z]*)", re.IGNORECASE)
_UNITS: Final[Mapping[str, int]] = {
    "": 1,
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 1 << 10,
    "mib": 1 << 20,
    "gib": 1 << 30,
    "tib": 1 << 40,
}
_SECONDS: Final = re.compile(
    r"[+-]?(?:[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20})(?:[eE][+-]?[0-9]{1,3})?|[+-]?(?:inf|nan)"
)
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST: Final = re.compile(r"[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
_SCHEMES: Final = ("redis://", "rediss://", "unix://", "valkey://", "valkeys://")


def parse_size(raw: object) -> int:
    """Return a number of bytes: ``268435456``, ``"256MiB"``, ``"1.5 GiB"``, ``"100MB"``."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    match = _SIZE.fullmatch(raw.strip()) if isinstance(raw, str) else None
    unit = _UNITS.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise ValueError(f"{raw!r:.80} is not a size; write bytes, or a number with KiB, MiB, GiB or KB, MB, GB")
    whole, _, fraction = match[1].partition(".")
    return int(whole + fraction) * unit // int("1" + "0" * len(fraction))  # in integers: 1.1 GB is exact


def format_size(size: int) -> str:
    """Return a number of bytes for people: ``256MiB``, ``1.5GiB``, ``977B``."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        amount = size / _UNITS[unit.lower()]
        if amount >= 1:
            return f"{amount:.2f}".rstrip("0").rstrip(".") + unit
    return f"{size}B"


def parse_integer(raw: object) -> int:
    """Return a whole number of at most 18 digits."""
    if isinstance(raw, int) and not isinstance(raw, bool):
        return raw
    text = raw.strip() if isinstance(raw, str) else ""
    if _INTEGER.fullmatch(text):
        return int(text)
    raise ValueError(f"{raw!r:.80} is not a whole number")


def parse_seconds(raw: object) -> float:
    """Return a number of seconds, such as ``0.0001`` or ``"1e-4"``."""
    if isinstance(raw, int | float) and not isinstance(raw, bool):
        return float(raw)
    text = raw.strip() if isinstance(raw, str) else ""
    if _SECONDS.fullmatch(text):  # narrower than float(), which takes 1_0 and the digits of every script
        return float(text)
    raise ValueError(f"{raw!r:.80} is not a number of seconds")


def parse_duration(text: str) -> float | str:
    """Return a number of seconds as such, and any other text as it is, for the client to read: ``"60"``, ``"5m"``."""
    return float(text) if _SECONDS.fullmatch(text) else text


def within(low: N, high: N, parse: Callable[[object], N]) -> Callable[[object], N]:
    """Return ``parse``, bounded."""

    def bounded(raw: object) -> N:
        number = parse(raw)
        if low <= number <= high:
            return number
        raise ValueError(f"{raw!r:.80} is not within {low}..{high}")

    return bounded


def parse_address(raw: object) -> tuple[str, int]:
    """Return host and port of ``"host:port"`` or ``"[v6]:port"``, the brackets taken off."""
    host, _, port = raw.strip().rpartition(":") if isinstance(raw, str) else ("", "", "")
    if not _HOST.fullmatch(host):
        raise ValueError(f"{raw!r:.80} is not an address; write HOST:PORT, an IPv6 host as [::1]:7700")
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{raw!r:.80} has no valid port; a port is a number from 0 to 65535")
    return host.strip("[]"), int(port)


def parse_listening(raw: object) -> str:
    """Return an address to listen on; port 0 means a free one."""
    parse_address(raw)
    return str(raw).strip()


def parse_advertised(raw: object) -> str:
    """Return an address to be reached by, or nothing."""
    if raw == "":
        return ""
    host, port = parse_address(raw)
    if host in WILDCARD_HOSTS:
        raise ValueError(f"{raw!r} means every address of this machine; name the one that others reach it by")
    if port == 0:
        raise ValueError(f"{raw!r} has port 0, which nobody can connect to")
    return str(raw).strip()


def parse_name(raw: object) -> str:
    """Return a name of 1 to 64 letters, digits and ``_ . -``."""
    if isinstance(raw, str) and _NAME.fullmatch(raw):
        return raw
    raise ValueError(f"{raw!r:.80} is not a name; a name is 1 to 64 of A-Z a-z 0-9 _ . -, the first a letter or digit")


def parse_name_or_nothing(raw: object) -> str:
    """Return a name, or nothing."""
    return "" if raw == "" else parse_name(raw)


def parse_coordinator(raw: object) -> str | None:
    """Return the URL of Redis or Valkey, or None. The error does not repeat it: it may hold a password."""
    if raw is None or raw == "":
        return None
    if isinstance(raw, str) and raw.startswith(_SCHEMES):
        return raw
    raise ValueError(f"a coordinator is a URL that starts with one of {' '.join(_SCHEMES)}")


def parse_path(raw: object) -> str:
    """Return the path of a file, or nothing."""
    if isinstance(raw, str) and "\0" not in raw:
        return raw
    raise ValueError(f"{raw!r:.80} is not the path of a file")


def parse_text(raw: object) -> str:
    """Return text as it is; what it means is checked where it is used."""
    if isinstance(raw, str):
        return raw
    raise ValueError(f"{raw!r:.80} is not text")


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches ``host``. A name other than localhost may lead anywhere."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def parse_choice(*choices: str) -> Callable[[object], str]:
    """Return a parser that takes one of ``choices``, in any case."""

    def parse(raw: object) -> str:
        if isinstance(raw, str) and raw.lower() in choices:
            return raw.lower()
        raise ValueError(f"{raw!r:.80} is not one of {', '.join(choices)}")

    return parse
