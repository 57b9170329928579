"""Run many schedules over all cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator

from tests.simulation.runner import Outcome, Tally
from tests.simulation.tps.plans import plan
from tests.simulation.tps.world import World

__all__ = ["Outcome", "Tally", "check", "outcomes"]
CHUNK = 10


def check(seed: int) -> Outcome:
    """One schedule. What it counted is of its last process, for sums that show that much happened."""
    verdict = World(plan(seed)).run()
    return Outcome(seed, verdict.plan.kinds, verdict.problems, {}, verdict.expected)


def outcomes(first: int, count: int, processes: int | None = None) -> Iterator[Outcome]:
    """The schedules of seeds `first` to `first + count - 1`, as they finish."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(check, range(first, first + count), chunksize=CHUNK)
