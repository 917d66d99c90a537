"""The limits of a node's port, put together from its options.

Here lives how ``--limits stream.frame_seconds=5,http.head_seconds=3`` becomes two frozen tables. Never here: what a limit does;
``LIMITS.md`` lists them all, with what happens beyond each.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any, Final

from kvcache.options import NodeOptions
from kvcache.transport.http.limits import HttpLimits
from kvcache.transport.limits import StreamLimits
from kvcache_client.protocol.errors import InvalidOption

__all__ = ["LIMITS", "port_limits"]

_ELSEWHERE: Final = {"stream.value_limit", "http.value_limit", "stream.connections"}
"""These have options of their own."""

LIMITS: Final[Mapping[str, float]] = {
    f"{section}.{name}": value
    for section, limits in (("stream", StreamLimits()), ("http", HttpLimits()))
    for name, value in asdict(limits).items()
}
"""Name -> default, for every limit of the port."""


def port_limits(options: NodeOptions, connections: int) -> tuple[StreamLimits, HttpLimits]:
    """Return what the options ask for; ``connections`` is for how many there is room. Raises ``InvalidOption``."""
    given: dict[str, dict[str, Any]] = {"stream": {"connections": connections}, "http": {}}
    for table in given.values():
        table["value_limit"] = options.value_limit
    for assignment in filter(None, (part.strip() for part in options.limits.split(","))):
        name, _, text = assignment.partition("=")
        section, _, limit = _known(name.strip()).partition(".")
        given[section][limit] = _number(name.strip(), text.strip())
    return StreamLimits(**given["stream"]), HttpLimits(**given["http"])


def _known(name: str) -> str:
    settable = [limit for limit in LIMITS if limit not in _ELSEWHERE]
    if name in settable:
        return name
    near = get_close_matches(name, settable, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(settable)}"
    raise InvalidOption(f"limits sets {name!r:.60}, which is no limit; {hint}")


def _number(name: str, text: str) -> float:
    whole = isinstance(LIMITS[name], int)
    try:
        value: float = int(text) if whole else float(text)
    except ValueError as error:
        kind = "a whole number" if whole else "a number"
        raise InvalidOption(f"limits: {name}={text!r:.40} is not {kind}") from error
    if not (value > 0 and math.isfinite(value)):
        raise InvalidOption(f"limits: {name}={text!r:.40} must be over 0")
    return value
