"""Run many schedules of one simulation over all cores, and add up what they ended with."""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import msgspec


class Simulation(msgspec.Struct, frozen=True):
    """One simulation, as those see it who run it. Its parts can be pickled: it crosses between processes.

    `world` takes a plan, and for one schedule that is told also `narrator` and `pedantic`.
    """

    plan: Callable[[int], Any]
    plan_of: Callable[[int, tuple[str, ...]], Any]
    world: Callable[..., Any]
    name: str = ""
    option: str = ""  # what chooses it on the command line
    chunk: int = 40  # schedules that a process takes at once
    report_every: int = 5000
    exempts: bool = True  # its oracle has exemptions

    def command(self, *arguments: object) -> str:
        """The command that runs it."""
        return " ".join(["python -m tests.simulation", *filter(None, (self.option,)), *map(str, arguments)])


class Outcome(msgspec.Struct, frozen=True):
    """What a schedule ended with, small enough to cross between processes."""

    seed: int
    kinds: tuple[str, ...]
    problems: tuple[str, ...]
    exemptions: dict[str, int]
    compared: dict[str, int]


class Tally(msgspec.Struct):
    """Outcomes added up."""

    simulation: Simulation
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

    def story(self) -> str:
        """The first of those that failed, and how to see each of them again."""
        lines = [f"{len(self.failed)} schedules failed"]
        for outcome in sorted(self.failed, key=lambda outcome: outcome.seed)[:10]:
            lines += [f"  seed {outcome.seed} ({', '.join(outcome.kinds)}): {'; '.join(outcome.problems)[:400]}"]
            lines += [f"    replay: {self.simulation.command(outcome.seed, '--verbose')}"]
        return "\n".join(lines)


def check(simulation: Simulation, seed: int) -> Outcome:
    """One schedule. Where a process is killed, what was counted is of the last one: for sums that show that much happened."""
    verdict = simulation.world(simulation.plan(seed)).run()
    return Outcome(seed, verdict.plan.kinds, verdict.problems, dict(verdict.exemptions), verdict.expected)


def outcomes(simulation: Simulation, first: int, count: int, processes: int | None = None) -> Iterator[Outcome]:
    """The schedules of seeds `first` to `first + count - 1`, as they finish."""
    # Spawned, not forked: a test run has threads, and a forked thread's lock is held for ever.
    with multiprocessing.get_context("spawn").Pool(processes or os.cpu_count() or 1) as pool:
        seeds = range(first, first + count)
        yield from pool.imap_unordered(functools.partial(check, simulation), seeds, chunksize=simulation.chunk)


def tallied(simulation: Simulation, count: int) -> Tally:
    """The first so many schedules, over all cores."""
    tally = Tally(simulation)
    for outcome in outcomes(simulation, 0, count):
        tally.add(outcome)
    return tally
