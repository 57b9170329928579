"""Sets of numbers kept as ranges: a jump over two million costs one pair, not two million entries."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator


class Ranges:
    """A set of integers as sorted, disjoint, non-adjacent inclusive ranges. `total` is how many integers it holds."""

    __slots__ = ("_highs", "_lows", "total")

    def __init__(self, pairs: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.total = 0
        for low, high in pairs:
            self.add_range(low, high)

    def __len__(self) -> int:
        """How many ranges (what a cap counts)."""
        return len(self._lows)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(list(zip(self._lows, self._highs, strict=True)))

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._lows, number) - 1
        return index >= 0 and number <= self._highs[index]

    def __bool__(self) -> bool:
        return bool(self._lows)

    @property
    def low(self) -> int:
        """The smallest number held. Raises IndexError when empty."""
        return self._lows[0]

    @property
    def high(self) -> int:
        """The largest number held. Raises IndexError when empty."""
        return self._highs[-1]

    def add(self, number: int) -> bool:
        """Hold `number`; False if it was held already."""
        highs = self._highs
        if highs and number == highs[-1] + 1:  # growth at the top is nearly every call
            highs[-1] = number
            self.total += 1
            return True
        return self.add_range(number, number) == 1

    def add_range(self, low: int, high: int) -> int:
        """Hold all of low..high; returns how many are new. An empty range (high < low) adds nothing."""
        if high < low:
            return 0
        first = bisect_left(self._highs, low - 1)  # first range that touches or follows low - 1
        last = bisect_right(self._lows, high + 1)  # one past the last range that touches high + 1
        merged = 0
        new_low, new_high = low, high
        if first < last:
            new_low = min(low, self._lows[first])
            new_high = max(high, self._highs[last - 1])
            merged = sum(self._highs[i] - self._lows[i] + 1 for i in range(first, last))
        self._lows[first:last] = [new_low]
        self._highs[first:last] = [new_high]
        added = new_high - new_low + 1 - merged
        self.total += added
        return added

    def discard(self, number: int) -> bool:
        """Let go of `number`; False if it was not held."""
        return self.discard_range(number, number) == 1

    def discard_range(self, low: int, high: int) -> int:
        """Let go of all of low..high; returns how many were held."""
        if high < low:
            return 0
        first = bisect_left(self._highs, low)
        last = bisect_right(self._lows, high)
        if first >= last:
            return 0
        held = sum(self._highs[i] - self._lows[i] + 1 for i in range(first, last))
        keep: list[tuple[int, int]] = []
        if self._lows[first] < low:
            keep.append((self._lows[first], low - 1))
        if self._highs[last - 1] > high:
            keep.append((high + 1, self._highs[last - 1]))
        kept = sum(b - a + 1 for a, b in keep)
        self._lows[first:last] = [a for a, _ in keep]
        self._highs[first:last] = [b for _, b in keep]
        self.total -= held - kept
        return held - kept

    def pop_lowest(self) -> tuple[int, int]:
        """Remove and return the lowest range. Raises IndexError when empty."""
        low, high = self._lows.pop(0), self._highs.pop(0)
        self.total -= high - low + 1
        return low, high

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """The ranges of low..high that are not held."""
        found: list[tuple[int, int]] = []
        index = bisect_left(self._highs, low)
        while low <= high and index < len(self._lows) and self._lows[index] <= high:
            if self._lows[index] > low:
                found.append((low, self._lows[index] - 1))
            low = self._highs[index] + 1
            index += 1
        if low <= high:
            found.append((low, high))
        return found
