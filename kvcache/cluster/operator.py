"""Operator: the admin operations by name, with arguments that come from outside.

Here lives the table of what may be asked over HTTP, and the check of arguments. Never here: the operations (``admin``), or HTTP.
Snapshots are not in it: their directory is on the machine of whoever asks.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from kvcache.cluster.admin import Admin
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["Operator"]

Operation = Callable[..., Awaitable[Any]]

_REQUIRED: Final = object()


class Operator:
    """The operations of ``admin``: ``reading`` by name, ``changing`` by name with arguments."""

    def __init__(self, admin: Admin) -> None:
        self.reading: Mapping[str, Callable[[], Awaitable[Any]]] = {"status": admin.status, "locks": admin.locks}
        self.changing: Mapping[str, Callable[[Mapping[str, Any]], Awaitable[Any]]] = {
            "flush": _taking(admin.flush, confirm=(bool, _REQUIRED)),
            "purge": _taking(admin.purge, prefix=(str, _REQUIRED)),
            "drain": _taking(admin.drain, id=(str, _REQUIRED)),
            "remove": _taking(admin.remove, id=(str, _REQUIRED), force=(bool, False)),
            "reweight": _taking(admin.reweight, id=(str, _REQUIRED), weight=(int, _REQUIRED)),
            "replicas": _taking(admin.replicas, count=(int, _REQUIRED)),
            "throttle": _taking(admin.throttle, rate=(int, _REQUIRED)),
            "cancel": _taking(admin.cancel),
            "repair": _taking(admin.repair, partitions=(list, None)),
            "dry-run": _taking(admin.dry_run),
        }

    def __repr__(self) -> str:
        return f"<Operator {', '.join(self.changing)}>"


def _taking(operation: Operation, **kinds: tuple[type, Any]) -> Callable[[Mapping[str, Any]], Awaitable[Any]]:
    """Return ``operation`` with its arguments checked. ``confirm`` must be true and is not passed on."""

    def carry_out(arguments: Mapping[str, Any]) -> Awaitable[Any]:
        unknown = set(arguments) - set(kinds)
        if unknown:
            raise InvalidOption(f"unknown argument {sorted(unknown)[0]!r:.60}; there are {', '.join(kinds) or 'none'}")
        values = {}
        for name, (kind, default) in kinds.items():
            value = arguments.get(name, default)
            if value is _REQUIRED or (value is not default and type(value) is not kind):
                raise InvalidOption(f"{name}={arguments.get(name)!r:.60}: must be given, as {kind.__name__}")
            values[name] = value
        if values.pop("confirm", True) is not True:
            raise InvalidOption("confirm must be true: this forgets everything")
        return operation(**values)

    return carry_out
