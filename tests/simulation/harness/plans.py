"""What every schedule is made of: acts in time, of one kind of trouble or of several."""

from __future__ import annotations

import random
from collections.abc import Iterable

import msgspec

Value = float | str | bool | None


class Act(msgspec.Struct, frozen=True):
    """Something that happens `at` so many seconds into the schedule."""

    at: float
    what: str
    name: str = ""
    value: Value = None
    extra: Value = None


def kinds_of(seed: int, names: Iterable[str], most: int, rng: random.Random) -> tuple[str, ...]:
    """The kinds of trouble of a seed: three in five have one alone, each in its turn, the others mix two to `most`."""
    names = tuple(names)
    return tuple(rng.sample(names, rng.randint(2, most))) if seed % 5 >= 3 else (names[(seed // 5 * 3 + seed % 5) % len(names)],)
