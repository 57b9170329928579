"""A classic histogram: fixed upper bounds, counts, a sum."""

from __future__ import annotations

from bisect import bisect_left

import msgspec

FAST_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Round trips, canary, sentinel, handshake, probes."""
SLOW_S = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Event latency, resync, flush, reconcile."""


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """`cumulative` has one count per bound and a last one for +Inf."""

    bounds: tuple[float, ...]
    cumulative: tuple[int, ...]
    sum: float


class Histogram:
    """Counts observations at or below each bound."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        if list(bounds) != sorted(set(bounds)) or not bounds:
            raise ValueError(f"bounds must be strictly ascending: {bounds}")
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value; below 0 is counted as 0 (a clock's fault, not a duration)."""
        value = max(value, 0.0)
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    @property
    def count(self) -> int:
        """Observations so far."""
        return sum(self._counts)

    def snapshot(self) -> HistogramSnapshot:
        """An immutable picture."""
        total, cumulative = 0, []
        for count in self._counts:
            total += count
            cumulative.append(total)
        return HistogramSnapshot(self._bounds, tuple(cumulative), self._sum)
