"""What was measured, as rows: a value, how far it was spread, the target, the verdict.

What belongs here: numbers about numbers and the table. What is measured is the other modules'.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import msgspec


class Row(msgspec.Struct, frozen=True):
    """One line of the table. Without `target` it is for information; without `measured` a target could not be measured, which misses it."""

    name: str
    measured: float | None
    unit: str = ""
    low: float | None = None
    high: float | None = None
    target: float | None = None
    note: str = ""

    @property
    def missed(self) -> bool:
        """There is a target, and it was not reached."""
        return self.target is not None and (self.measured is None or self.measured > self.target)


def row(name: str, values: Sequence[float], unit: str = "", target: float | None = None, note: str = "") -> Row:
    """The median of several measurements, with the lowest and the highest."""
    return Row(name, statistics.median(values), unit, min(values), max(values), target, note)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Round by round: what disturbed the machine disturbed both."""
    return [mine / other for mine, other in zip(ours, theirs, strict=True)]


def table(rows: Sequence[Row]) -> str:
    """For a terminal."""
    cells = [("", "median", "lowest … highest", "target", "verdict")]
    for item in rows:
        spread = "" if item.low is None or item.high is None else f"{_text(item.low, '')} … {_text(item.high, '')}"
        target = "" if item.target is None else f"≤ {_text(item.target, item.unit)}"
        verdict = item.note if item.target is None else f"MISSED {item.note}".strip() if item.missed else f"ok {item.note}".strip()
        cells.append((item.name, "not measured" if item.measured is None else _text(item.measured, item.unit), spread, target, verdict))
    widths = [max(len(line[column]) for line in cells) for column in range(4)]
    lines = ["  ".join([line[0].ljust(widths[0]), *(line[i].rjust(widths[i]) for i in (1, 2, 3)), line[4]]).rstrip() for line in cells]
    return "\n".join(lines)


def _text(value: float, unit: str) -> str:
    digits = 1 if value >= 20 else 2 if value >= 2 else 3
    return f"{value:.{digits}f} {unit}".strip()
