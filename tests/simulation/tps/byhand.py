"""Run schedules of a TPS host by hand; see `tests.simulation.__main__`."""

from __future__ import annotations

import time

from tests.simulation.tps.plans import plan, plan_of
from tests.simulation.tps.runner import Tally, outcomes
from tests.simulation.tps.world import World

REPORT_EVERY = 1000


def one(seed: int, kinds: str | None, verbose: bool) -> int:
    """One schedule, told."""
    schedule = plan(seed) if kinds is None else plan_of(seed, tuple(kinds.split(",")))
    print(f"seed {seed}: {schedule}")

    def tell(now: float, text: str) -> None:
        print(f"{now - world.began:9.3f} {text}")

    world = World(schedule, narrator=tell if verbose else None)
    verdict = world.run()
    print(f"oracle:  {verdict.expected}")
    print(f"session: {verdict.shown}")
    for problem in verdict.problems:
        print(f"PROBLEM {problem}")
    print("agreed" if not verdict.problems else f"{len(verdict.problems)} problems")
    return 1 if verdict.problems else 0


def many(first: int, count: int, processes: int | None) -> int:
    """Many schedules over all cores."""
    began = time.monotonic()
    tally = Tally()
    for outcome in outcomes(first, count, processes):
        tally.add(outcome)
        if outcome.problems:
            print(f"FAILED tps seed {outcome.seed} {','.join(outcome.kinds)}: {outcome.problems[0][:300]}", flush=True)
        if tally.schedules % REPORT_EVERY == 0:
            print(f"{tally.schedules} schedules in {time.monotonic() - began:.0f} s, {len(tally.failed)} failed", flush=True)
    print(f"tps: {tally.schedules} schedules in {time.monotonic() - began:.1f} s, {len(tally.failed)} failed")
    print(f"the oracle's counters, summed: {dict(tally.totals)}")
    if tally.failed:
        print("failing seeds:", " ".join(str(outcome.seed) for outcome in sorted(tally.failed, key=lambda outcome: outcome.seed)))
        print("replay one with: python -m tests.simulation --tps SEED --verbose")
    return 1 if tally.failed else 0
