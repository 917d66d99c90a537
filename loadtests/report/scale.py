"""Scales: numbers to places on an axis, and where its ticks stand.

Here lives linear and logarithmic scales and how numbers are written. Never here: drawing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Format", "Scale", "bytes_text", "count_text", "linear", "logarithmic", "milliseconds_text", "share_text"]

Format = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Scale:
    """``low`` to ``high`` on an axis; ``place`` gives 0 to 1."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value stands; what is beyond either end stands at it."""
        if self.log:
            value, low, high = (math.log10(max(it, self.low)) for it in (value, self.low, self.high))
        else:
            low, high = self.low, self.high
        return min(max((value - low) / (high - low), 0.0), 1.0)


def linear(low: float, high: float, *, ticks: int = 5) -> Scale:
    """Return a scale over round numbers from at most ``low`` to at least ``high``."""
    if high <= low:
        high = low + 1
    raw = (high - low) / ticks
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Scale(first * step, last * step, tuple(number * step for number in range(first, last + 1)))


def logarithmic(low: float, high: float) -> Scale:
    """Return a scale over powers of ten, with 2 and 5 between them where there is room. Both ends must be above 0."""
    high = max(high, low * 2)
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = len(exponents) > 4
    marks = [10.0**exponent * factor for exponent in exponents for factor in ((1,) if wide else (1, 2, 5))]
    bottom = max((it for it in marks if it <= low * 1.001), default=marks[0])
    top = min((it for it in marks if it >= high * 0.999), default=marks[-1])
    return Scale(bottom, top, tuple(it for it in marks if bottom <= it <= top), log=True)


def count_text(value: float) -> str:
    """Return a count for an axis: 950, 12k, 1.5M."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def milliseconds_text(value: float) -> str:
    """Return milliseconds in the unit that fits: 250 µs, 20 ms, 1.5 s."""
    if value < 1:
        return f"{value * 1e3:.3g} µs"
    return f"{value:.3g} ms" if value < 1e3 else f"{value / 1e3:.3g} s"


def share_text(value: float) -> str:
    """Return a share as a percentage."""
    return f"{value * 100:.4g} %"


def bytes_text(value: float) -> str:
    """Return bytes in the unit that fits."""
    for exponent, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value >= 1 << exponent:
            return f"{value / (1 << exponent):.3g} {unit}"
    return f"{value:.3g} B"
