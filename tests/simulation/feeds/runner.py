"""Run many schedules over all cores."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Iterator

from tests.simulation.feeds.plans import plan
from tests.simulation.feeds.world import World
from tests.simulation.runner import CHUNK, Outcome, Tally

__all__ = ["Outcome", "Tally", "check", "outcomes"]


def check(protocol: str, seed: int) -> Outcome:
    """One schedule."""
    verdict = World(plan(protocol, seed)).run()
    return Outcome(seed, verdict.plan.kinds, verdict.problems, dict(verdict.exemptions), verdict.expected)


def outcomes(protocol: str, first: int, count: int, processes: int | None = None) -> Iterator[Outcome]:
    """The schedules of seeds `first` to `first + count - 1`, as they finish."""
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(functools.partial(check, protocol), range(first, first + count), chunksize=CHUNK)
