"""Run schedules of protocols with a feed by hand; see `tests.simulation.__main__`."""

from __future__ import annotations

import time

from tests.simulation.feeds.plans import plan, plan_of
from tests.simulation.feeds.runner import Tally, outcomes
from tests.simulation.feeds.world import World

REPORT_EVERY = 5000


def one(protocol: str, seed: int, kinds: str | None, verbose: bool, pedantic: bool) -> int:
    """One schedule, told."""
    schedule = plan(protocol, seed) if kinds is None else plan_of(protocol, seed, tuple(kinds.split(",")))
    print(f"seed {seed}: {schedule}")

    def tell(now: float, text: str) -> None:
        print(f"{now - world.began:9.3f} {text}")

    world = World(schedule, narrator=tell if verbose else None, pedantic=pedantic)
    verdict = world.run()
    print(f"exempted: {dict(verdict.exemptions) or 'nothing'}")
    print(f"oracle:  {verdict.expected}")
    print(f"session: {verdict.shown}")
    for problem in verdict.problems:
        print(f"PROBLEM {problem}")
    print("agreed" if not verdict.problems else f"{len(verdict.problems)} problems")
    return 1 if verdict.problems else 0


def many(protocol: str, first: int, count: int, processes: int | None) -> int:
    """Many schedules over all cores."""
    began = time.monotonic()
    tally = Tally()
    for outcome in outcomes(protocol, first, count, processes):
        tally.add(outcome)
        if outcome.problems:
            print(f"FAILED {protocol} seed {outcome.seed} {','.join(outcome.kinds)}: {outcome.problems[0][:300]}", flush=True)
        if tally.schedules % REPORT_EVERY == 0:
            print(f"{tally.schedules} schedules in {time.monotonic() - began:.0f} s, {len(tally.failed)} failed", flush=True)
    print(f"{protocol}: {tally.schedules} schedules in {time.monotonic() - began:.1f} s, {len(tally.failed)} failed")
    print(f"the oracle's counters, summed: {dict(tally.totals)}")
    print(f"schedules that used an exemption: {dict(tally.exempted) or 'none'}")
    if tally.failed:
        print("failing seeds:", " ".join(str(outcome.seed) for outcome in sorted(tally.failed, key=lambda outcome: outcome.seed)))
        print(f"replay one with: python -m tests.simulation --feeds {protocol} SEED --verbose")
    return 1 if tally.failed else 0
