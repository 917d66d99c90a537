"""A latency histogram whose size does not grow with the number of samples.

Here lives counting and reading percentiles. Never here: a clock, a unit other than seconds, or printing.

Buckets grow by a constant factor, so every percentile is right within 1 % of itself, from 100 ns to over 1000
s, in about 1,200 integers. Source: Masson, Rim, Lee, "DDSketch" (VLDB 2019), the logarithmic mapping with
fixed bounds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

__all__ = ["PERCENTILES", "RELATIVE_ERROR", "LatencyHistogram", "bucket_of"]

RELATIVE_ERROR: Final = 0.01
"""How far a percentile may be from the sample that it stands for, as a share of it."""

PERCENTILES: Final[Mapping[str, float]] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

_GROWTH: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_GROWTH: Final = math.log(_GROWTH)
_FLOOR: Final = 1e-7
_CEILING: Final = 1e3
_PER_LOG: Final = 1 / _LOG_GROWTH
_ABOVE_FLOOR: Final = -math.log(_FLOOR) / _LOG_GROWTH
_BUCKETS: Final = math.ceil(math.log(_CEILING / _FLOOR) / _LOG_GROWTH) + 1
# The point of a bucket (low, low * growth] that is nearest, in relative terms, to both of its ends.
_CENTRE: Final = 2 / (1 + _GROWTH)


def bucket_of(
    seconds: float, log: Callable[[float], float] = math.log, ceil: Callable[[float], int] = math.ceil
) -> int:
    """Return the number of the bucket that a sample belongs to. Zero and below count as the smallest there is."""
    if seconds <= _FLOOR:
        return 0
    index = ceil(log(seconds) * _PER_LOG + _ABOVE_FLOOR)
    return index if index < _BUCKETS else _BUCKETS - 1


class LatencyHistogram:
    """Samples in seconds; ``count``, ``total``, ``maximum`` are exact, percentiles to ``RELATIVE_ERROR``."""

    __slots__ = ("_buckets", "count", "maximum", "total")

    def __init__(self) -> None:
        self._buckets = [0] * _BUCKETS
        self.count = 0
        self.total = 0.0
        self.maximum = 0.0

    def record(self, seconds: float) -> None:
        """Count one sample. Zero and below count as the smallest there is: clocks have a grain."""
        self._buckets[bucket_of(seconds)] += 1
        self.count += 1
        self.total += seconds
        if seconds > self.maximum:
            self.maximum = seconds

    def add_buckets(self, buckets: Mapping[int, int], total: float, maximum: float) -> None:
        """Count samples that were counted by their ``bucket_of``; ``total`` and ``maximum`` are theirs, in seconds."""
        for bucket, count in buckets.items():
            self._buckets[bucket] += count
            self.count += count
        self.total += total
        self.maximum = max(self.maximum, maximum)

    def percentile(self, fraction: float) -> float:
        """Return the sample at ``fraction`` (0 to 1) of all in order, in seconds; 0.0 without samples."""
        if not 0 <= fraction <= 1:
            raise ValueError(f"a percentile is asked for as a fraction from 0 to 1, not {fraction!r}")
        rank = max(1, math.ceil(fraction * self.count))
        seen = 0
        for index, samples in enumerate(self._buckets[:-1]):
            seen += samples
            if seen >= rank:
                return min(_FLOOR * _GROWTH**index * _CENTRE, self.maximum)
        return self.maximum  # no samples, or beyond the ceiling

    def merge(self, others: Sequence[LatencyHistogram]) -> LatencyHistogram:
        """Return a new histogram of the samples of this one and of ``others``."""
        merged = LatencyHistogram()
        for one in (self, *others):
            merged._buckets = [a + b for a, b in zip(merged._buckets, one._buckets, strict=True)]
            merged.count += one.count
            merged.total += one.total
            merged.maximum = max(merged.maximum, one.maximum)
        return merged

    def summary_ms(self) -> dict[str, float]:
        """Return the usual percentiles, the mean and the maximum, in milliseconds."""
        marks = {name: self.percentile(fraction) * 1e3 for name, fraction in PERCENTILES.items()}
        return {
            **marks,
            "max": self.maximum * 1e3,
            "mean": self.total / self.count * 1e3 if self.count else 0.0,
        }

    def __repr__(self) -> str:
        return f"<LatencyHistogram count={self.count} p50={self.percentile(0.5):.6f}s max={self.maximum:.6f}s>"
