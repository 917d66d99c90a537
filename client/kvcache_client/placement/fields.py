"""Fields: the syntax and the range of every value in a topology document.

Here lives one check per kind of value; each raises a ``TopologyError`` that names the place, the value and the rule.
Never here: how the fields make a document (``topology``).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import AddressValueError, IPv6Address
from reprlib import Repr
from typing import Any, Final, NoReturn, TypeAlias

from kvcache_client.protocol.errors import TopologyError

__all__ = [
    "CLUSTER_ID",
    "INCARNATION",
    "NAME",
    "REASON",
    "ZONE",
    "Syntax",
    "check_address",
    "check_choice",
    "check_flag",
    "check_integer",
    "check_text",
    "refuse",
    "take",
]

Syntax: TypeAlias = tuple[re.Pattern[str], str]
"""A pattern and its rule in words."""

NAME: Final[Syntax] = (
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"),
    "1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit",
)
ZONE: Final[Syntax] = (
    re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?"),
    "empty, or up to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit",
)
INCARNATION: Final[Syntax] = (re.compile(r"[A-Za-z0-9._:-]{0,64}"), "up to 64 of A-Z a-z 0-9 . _ : -")
REASON: Final[Syntax] = (re.compile(r"[ -~]{0,200}"), "up to 200 printable ASCII characters")
CLUSTER_ID: Final[Syntax] = (re.compile(r"[0-9a-f]{8,64}"), "8 to 64 lower-case hex digits")

_SHOWN: Final = Repr()  # bounded in depth and length: what is refused may be anything
_SHOWN.maxstring = 100

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*\.?")
_ADDRESS: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+)):([0-9]{1,5})")


def refuse(place: str, value: object, rule: str) -> NoReturn:
    """Raise the error that says what is wrong where."""
    raise TopologyError(f"{place} is {_SHOWN.repr(value)}; it must be {rule}")


def check_integer(place: str, value: object, low: int, high: int) -> None:
    """Check an integer (a bool is none) and its range, both ends included."""
    if type(value) is not int or not low <= value <= high:
        refuse(place, value, f"an integer in {low}..{high}")


def check_flag(place: str, value: object) -> None:
    """Check that the value is true or false."""
    if type(value) is not bool:
        refuse(place, value, "true or false")


def check_text(place: str, value: object, syntax: Syntax) -> None:
    """Check that the whole text has the syntax."""
    pattern, rule = syntax
    if type(value) is not str or pattern.fullmatch(value) is None:
        refuse(place, value, rule)


def check_choice(place: str, value: object, choices: Collection[str]) -> None:
    """Check that the value is one of a few words."""
    if type(value) is not str or value not in choices:
        refuse(place, value, "one of " + ", ".join(choices))


def check_address(place: str, value: object) -> None:
    """Check ``host:port``; an IPv6 host stands in brackets, without a scope id (it means something on one machine only)."""
    match = _ADDRESS.fullmatch(value) if type(value) is str else None
    if match is not None:
        ipv6, host, port = match.groups()
        if 1 <= int(port) <= 65535 and (_is_ipv6(ipv6) if ipv6 else _HOST.fullmatch(host)):
            return
    refuse(place, value, "host:port, with an IPv6 host in brackets and the port in 1..65535")


def _is_ipv6(host: str) -> bool:
    try:
        IPv6Address(host)
    except AddressValueError:
        return False
    return True


def take(fields: object, place: str, names: Collection[str]) -> dict[str, Any]:
    """Return the named fields of a JSON object; it may have others."""
    if type(fields) is not dict:
        refuse(place, fields, "a JSON object")
    missing = [name for name in names if name not in fields]
    if missing:
        raise TopologyError(f"{place} has no field {missing[0]!r}")
    return {name: fields[name] for name in names}
