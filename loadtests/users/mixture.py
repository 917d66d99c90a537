"""Mixtures: a number drawn from a weighted list, for value sizes and times to live.

Here lives the syntax and the drawing. Never here: what the numbers mean.

``64:50,256-1024:40,8192:10`` is 64 in half of all draws, 256 to 1024 in two fifths, 8192 in a tenth. Within a range small
numbers are as likely as large ones by their order of magnitude (log-uniform), as sizes in real caches are. ``none`` is None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from random import Random

__all__ = ["Mixture", "parse_mixture"]


@dataclass(frozen=True, slots=True)
class _Part:
    low: float | None
    high: float | None
    weight: float


class Mixture:
    """A distribution of numbers; ``None`` may be one of them."""

    def __init__(self, text: str, parts: list[_Part]) -> None:
        self.text = text
        self._parts = parts
        self._bounds = list(accumulate(part.weight for part in parts))

    @property
    def largest(self) -> float | None:
        """The largest number that can be drawn, None if there is none."""
        return max((part.high for part in self._parts if part.high is not None), default=None)

    def sampler(self, dice: Random) -> Callable[[], float | None]:
        """Return a function that draws."""
        if len(self._parts) == 1 and self._parts[0].low == self._parts[0].high:
            constant = self._parts[0].low
            return lambda: constant
        parts, bounds = self._parts, self._bounds

        def draw() -> float | None:
            part = dice.choices(parts, cum_weights=bounds)[0]
            if part.low is None or part.high is None or part.low == part.high:
                return part.low
            return math.exp(dice.uniform(math.log(part.low), math.log(part.high)))

        return draw

    def __repr__(self) -> str:
        return f"<Mixture {self.text}>"


def parse_mixture(text: str, *, none: bool = False) -> Mixture:
    """Return the mixture that ``text`` describes; ``none`` allows None. Raises ``ValueError`` that names the wrong part."""
    parts = [_part(piece.strip(), none) for piece in text.split(",") if piece.strip()]
    if not parts:
        raise ValueError(f"{text!r} holds nothing; write NUMBER, LOW-HIGH or either with :WEIGHT, with commas between")
    return Mixture(text, parts)


def _part(piece: str, none: bool) -> _Part:
    numbers, _, weight = piece.partition(":")
    try:
        share = float(weight) if weight else 1.0
        if numbers == "none" and none:
            low = high = None
        else:
            first, dash, second = numbers.partition("-")
            low = float(first)
            high = float(second) if dash else low
    except ValueError:
        raise ValueError(f"{piece!r} is not NUMBER, LOW-HIGH or either with :WEIGHT") from None
    if not 0 < share < math.inf or (low is not None and high is not None and not 0 < low <= high < math.inf):
        raise ValueError(f"{piece!r}: numbers and weights are above 0, and a range goes from low to high")
    return _Part(low, high, share)
