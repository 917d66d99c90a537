"""Durations: lengths of time as callers write them.

Here lives the reading of ``60``, ``timedelta(minutes=1)`` and ``"1m30s"``. Never here: when something expires (``plans``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final, TypeAlias

from kvcache_client.protocol.errors import InvalidOption, InvalidTtl
from kvcache_client.protocol.limits import TTL_SECONDS
from kvcache_client.protocol.shown import shown

__all__ = ["Duration", "Ttl", "seconds_in"]

Duration: TypeAlias = float | timedelta | str
"""Seconds, a timedelta, or text of numbers with units, the largest first: ``"90s"``, ``"5m"``, ``"2h5m"``, ``"250ms"``."""

Ttl: TypeAlias = Duration | None
"""How long a value lives; None lives until it is evicted."""

_UNITS: Final[Mapping[str, float]] = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"(\d{1,12}(?:\.\d{1,6})?)"
_TEXT: Final = re.compile("".join(f"(?:{_NUMBER}{unit})?" for unit in _UNITS), re.ASCII)


def seconds_in(option: str, duration: Any, *, least: float = 0.0) -> float:
    """Return the seconds of a duration that was given as ``option``: over ``least``, at most ten years.

    Raises ``InvalidTtl`` for the option ``ttl``, ``InvalidOption`` for any other; both name the value and the limit.
    """
    wrong = InvalidTtl if option == "ttl" else InvalidOption
    if isinstance(duration, str):
        seconds = _read(duration)
        if seconds is None:
            units = ", ".join(_UNITS)
            raise wrong(f"{option}={shown(duration)}: must be numbers with units in this order ({units}), like '2h5m'")
    else:
        seconds = duration.total_seconds() if isinstance(duration, timedelta) else duration
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise wrong(
                f"{option}={shown(duration)}: must be seconds, a timedelta or text like '5m', not {type(duration).__name__}"
            )
    if not least < seconds <= TTL_SECONDS:  # also false for NaN and infinity
        raise wrong(f"{option}={shown(duration)}: must be over {least:g} and at most {TTL_SECONDS} seconds (ten years)")
    return float(seconds)


def _read(text: str) -> float | None:
    match = _TEXT.fullmatch(text)
    if match is None or not text:
        return None
    return sum(float(number) * unit for number, unit in zip(match.groups(), _UNITS.values(), strict=True) if number)
