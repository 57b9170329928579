"""Run many schedules over all cores, and add up what they ended with."""

from __future__ import annotations

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator

import msgspec

from tests.simulation.faults import plan
from tests.simulation.world import World

CHUNK = 40


class Outcome(msgspec.Struct, frozen=True):
    """What a schedule ended with, small enough to cross between processes."""

    seed: int
    kinds: tuple[str, ...]
    problems: tuple[str, ...]
    exemptions: dict[str, int]
    compared: dict[str, int]


class Tally(msgspec.Struct):
    """Outcomes added up."""

    schedules: int = 0
    failed: list[Outcome] = []
    exempted: Counter[str] = msgspec.field(default_factory=Counter)  # schedules in which an exemption was used, by its name
    exempted_alone: dict[str, Counter[str]] = {}  # the same for schedules with one kind of fault, by kind
    totals: Counter[str] = msgspec.field(default_factory=Counter)  # the oracle's counters, summed: a harness in which nothing happens proves nothing

    def add(self, outcome: Outcome) -> None:
        """One more."""
        self.schedules += 1
        if outcome.problems:
            self.failed.append(outcome)
        self.exempted.update(outcome.exemptions.keys())
        if len(outcome.kinds) == 1:
            self.exempted_alone.setdefault(outcome.kinds[0], Counter()).update(outcome.exemptions.keys())
        self.totals.update(outcome.compared)


def check(seed: int) -> Outcome:
    """One schedule."""
    verdict = World(plan(seed)).run()
    return Outcome(seed, verdict.plan.kinds, verdict.problems, dict(verdict.exemptions), verdict.expected)


def outcomes(first: int, count: int, processes: int | None = None) -> Iterator[Outcome]:
    """The schedules of seeds `first` to `first + count - 1`, as they finish."""
    # Spawned, not forked: a test run has threads, and a forked thread's lock is held for ever.
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        yield from pool.imap_unordered(check, range(first, first + count), chunksize=CHUNK)
