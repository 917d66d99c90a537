"""Keys: which one an operation is for.

Here lives Zipf's law over a number of keys. Never here: what is asked of a key.

The key of rank r is drawn with a probability in proportion to 1 / r ** exponent: 0 is uniform, about 1 what caches see
(Breslau et al., "Web caching and Zipf-like distributions", INFOCOM 1999).
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from itertools import accumulate
from random import Random

__all__ = ["KEYS_AT_MOST", "ZipfKeys"]

KEYS_AT_MOST = 10_000_000
"""The table of a million keys takes 8 MB."""


class ZipfKeys:
    """Draws keys called ``PREFIX0`` (the most popular) to ``PREFIX<count - 1>``. Raises ``ValueError`` on senseless figures."""

    def __init__(self, prefix: str, count: int, exponent: float, dice: Random) -> None:
        if not 1 <= count <= KEYS_AT_MOST:
            raise ValueError(f"{count} keys: there can be 1 to {KEYS_AT_MOST}")
        if not 0 <= exponent <= 10:
            raise ValueError(f"a Zipf exponent of {exponent:g}: it can be 0 (uniform) to 10")
        self.prefix = prefix
        self.count = count
        self.exponent = exponent
        self._bounds = array("d", accumulate(rank**-exponent for rank in range(1, count + 1)))
        self._whole = self._bounds[-1]
        self._random = dice.random

    def draw(self) -> str:
        """Return a key."""
        return f"{self.prefix}{bisect_left(self._bounds, self._random() * self._whole)}"

    def name(self, number: int) -> str:
        """Return the key of this number, 0 being the most popular."""
        return f"{self.prefix}{number}"

    def __repr__(self) -> str:
        return f"<ZipfKeys {self.prefix}* count={self.count} exponent={self.exponent:g}>"
