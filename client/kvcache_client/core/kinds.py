"""Kinds: what an option may be at all, before anything asks what it means.

Here lives the check of types and of texts, by tables from option to kind. Never here: which options there are, or the range of
a number (the classes that hold them, ``config`` first of all).

Python takes "no" for true, True for a number and a text for a sequence of serializers: without this, a wrong option is obeyed as
something else, or fails far from where it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from kvcache_client.placement.fields import ZONE
from kvcache_client.protocol.errors import InvalidOption
from kvcache_client.protocol.shown import shown

__all__ = [
    "FLAG",
    "HOST",
    "INTRODUCTION",
    "LABEL",
    "NUMBER",
    "PATH",
    "SEQUENCE",
    "WHOLE",
    "Kind",
    "check_kinds",
    "instance",
]

_INTRODUCTION_BYTES: Final = 256
"""How a client calls itself: what it says before the node knows it has 4 KiB in all (``HELLO_BYTES``)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What fits, and how it is called after "must be"."""

    rule: str
    fits: Callable[[object], bool]
    hidden: bool = False
    """Whether a value that does not fit may be a secret, so that only its type is told."""


def check_kinds(holder: object, kinds: Mapping[str, Kind]) -> None:
    """Raise ``InvalidOption`` for the first attribute of ``holder`` that is not of its kind."""
    for option, kind in kinds.items():
        value = getattr(holder, option)
        if not kind.fits(value):
            told = f" of type {type(value).__name__}" if kind.hidden else f"={shown(value)}"
            raise InvalidOption(f"{option}{told}: must be {kind.rule}")


def instance(wanted: type, rule: str, *, or_none: bool = False, hidden: bool = False) -> Kind:
    """Return the kind of the instances of a class, and of None if that may be."""
    return Kind(rule, lambda value: isinstance(value, wanted) or (or_none and value is None), hidden)


def _is_introduction(value: object) -> bool:
    return isinstance(value, str) and value.isprintable() and len(value.encode()) <= _INTRODUCTION_BYTES


def _is_host(value: object) -> bool:
    if not isinstance(value, str) or not value.isprintable():
        return False
    try:
        value.encode("idna")
    except UnicodeError:
        return False
    return True


FLAG: Final = Kind("True or False", lambda value: type(value) is bool)
NUMBER: Final = Kind("a number", lambda value: isinstance(value, int | float) and type(value) is not bool)
WHOLE: Final = Kind("a whole number", lambda value: isinstance(value, int) and type(value) is not bool)
SEQUENCE: Final = Kind("a tuple or a list", lambda value: isinstance(value, tuple | list))
PATH: Final = Kind("a path, empty for none", lambda value: isinstance(value, str) or hasattr(type(value), "__fspath__"))
HOST: Final = Kind("a host name, empty for none", _is_host)
LABEL: Final = Kind(ZONE[1], lambda value: isinstance(value, str) and ZONE[0].fullmatch(value) is not None)
"""As topologies call clusters and zones."""
INTRODUCTION: Final = Kind(f"printable text of at most {_INTRODUCTION_BYTES} bytes", _is_introduction)
